#!/bin/sh
# install.sh VERSION RELEASES FOLDER [KEY]: fetches the archive of a release for this machine, compares it with SHA256SUMS, and puts the
# program into FOLDER. KEY is the owner's public key, as a file or as its text, or else what LAPIDARY_RELEASE_KEY has: with it SHA256SUMS
# must be signed by that key, which openssl checks. Where anything is not as it should be, nothing is installed.
set -eu

fail() {
  echo "install.sh: $1" >&2
  exit "${2:-1}"
}

[ $# -eq 3 ] || [ $# -eq 4 ] || fail "want VERSION RELEASES FOLDER [KEY], got $# arguments" 2
version=$1 releases=$2 folder=$3 key=${4:-${LAPIDARY_RELEASE_KEY:-}}

case $(uname -s) in
Linux) os=linux ;;
Darwin) os=darwin ;;
*) fail "there is no archive for $(uname -s) that it could install; see docs/install.md" ;;
esac
case $(uname -m) in
x86_64 | amd64) arch=amd64 ;;
aarch64 | arm64) arch=arm64 ;;
*) fail "there is no archive for $(uname -m); see docs/install.md" ;;
esac

name=lapidary_${version}_${os}_${arch}
work=$(mktemp -d)
trap 'rm -rf "$work" "$folder/.lapidary.$$"' EXIT

fetch() {
  curl --fail --silent --show-error --location --retry 3 -o "$work/$1" "$releases/$version/$1" ||
    fail "$1 of $version cannot be fetched from $releases; nothing was installed. $2"
}

# The key as openssl reads it, in a file.
case $key in
'') ;;
*'-----BEGIN PUBLIC KEY-----'*) printf '%s\n' "$key" > "$work/key.pub" ;;
*) [ -r "$key" ] || fail "the key $key cannot be read; give the file with the owner's public key, or its text" 2
  cat "$key" > "$work/key.pub" ;;
esac
if [ -n "$key" ]; then
  command -v openssl > /dev/null || fail "there is no openssl to check the signature with; install it, or leave the key out and trust the sums"
  openssl pkey -pubin -in "$work/key.pub" -noout 2> /dev/null || fail "the key is not a public key in PEM format; give the .pub file of lapidary keygen" 2
fi

fetch SHA256SUMS "Is there such a release?"
if [ -n "$key" ]; then
  fetch SHA256SUMS.sig "It is the signature that the key asks for: a release without one is not to be trusted."
  openssl dgst -sha256 -verify "$work/key.pub" -signature "$work/SHA256SUMS.sig" "$work/SHA256SUMS" > /dev/null 2>&1 ||
    fail "SHA256SUMS of $version is not signed by the key that was given; nothing was installed. Is it the key of this release's owner?"
  trust="signed by the key that was given"
else
  trust="compared with SHA256SUMS alone, which whoever can replace the archive can replace as well; give the owner's public key to have its signature checked"
fi

awk -v f="$name.tar.gz" '$2 == f && NF == 2' "$work/SHA256SUMS" > "$work/wanted"
[ -s "$work/wanted" ] || fail "SHA256SUMS of $version does not list $name.tar.gz; nothing was installed"
fetch "$name.tar.gz" "SHA256SUMS lists it."
(cd "$work" && if command -v sha256sum > /dev/null; then sha256sum -c wanted; else shasum -a 256 -c wanted; fi) > /dev/null 2>&1 ||
  fail "$name.tar.gz is not the file that SHA256SUMS lists; nothing was installed"
tar -xzf "$work/$name.tar.gz" -C "$work" "$name/lapidary"
mkdir -p "$folder"
cp "$work/$name/lapidary" "$folder/.lapidary.$$"
mv "$folder/.lapidary.$$" "$folder/lapidary"
echo "install.sh: lapidary $version is in $folder; $trust"
