#!/bin/sh
# install.sh VERSION RELEASES FOLDER: fetches the archive of a release for this machine, compares it with SHA256SUMS, and puts the program
# into FOLDER. Where anything is not as it should be, nothing is installed.
set -eu
version=$1 releases=$2 folder=$3

case $(uname -s) in
Linux) os=linux ;;
Darwin) os=darwin ;;
*) echo "install.sh: there is no archive for $(uname -s); see docs/install.md" >&2; exit 1 ;;
esac
case $(uname -m) in
x86_64 | amd64) arch=amd64 ;;
aarch64 | arm64) arch=arm64 ;;
*) echo "install.sh: there is no archive for $(uname -m); see docs/install.md" >&2; exit 1 ;;
esac

name=lapidary_${version}_${os}_${arch}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for f in "$name.tar.gz" SHA256SUMS; do
  curl --fail --silent --show-error --location --retry 3 -o "$work/$f" "$releases/$version/$f"
done

cd "$work"
grep -F "  $name.tar.gz" SHA256SUMS > wanted || { echo "install.sh: SHA256SUMS of $version does not list $name.tar.gz" >&2; exit 1; }
if command -v sha256sum > /dev/null; then sha256sum -c wanted > /dev/null; else shasum -a 256 -c wanted > /dev/null; fi ||
  { echo "install.sh: $name.tar.gz is not the file that SHA256SUMS lists; it was not installed" >&2; exit 1; }
tar -xzf "$name.tar.gz"
mkdir -p "$folder"
mv "$name/lapidary" "$folder/lapidary"
