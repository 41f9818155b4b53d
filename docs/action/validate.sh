#!/bin/sh
# Validates CANDIDATE against BASELINE on DATA with the further ARGUMENTS, into the folder REPORT, signed where LAPIDARY_KEY has a private
# key; tells the verdict to GITHUB_OUTPUT and the report to GITHUB_STEP_SUMMARY. Its exit code is that of lapidary validate.
set -u
sign=
if [ -n "${LAPIDARY_KEY:-}" ]; then
  sign=$(mktemp)
  trap 'rm -f "$sign"' EXIT
  printf '%s\n' "$LAPIDARY_KEY" > "$sign"
fi
unset LAPIDARY_KEY

# ARGUMENTS are words, as on a command line.
# shellcheck disable=SC2086
lapidary validate "$BASELINE" "$CANDIDATE" --data "$DATA" --report "$REPORT" ${sign:+--sign "$sign"} ${ARGUMENTS:-}
code=$?
case $code in
0) verdict=pass ;;
3) verdict=fail ;;
4) verdict=inconclusive ;;
*) verdict=error ;;
esac
{
  echo "verdict=$verdict"
  echo "report=$REPORT"
} >> "$GITHUB_OUTPUT"
if [ -f "$REPORT/report.md" ]; then cat "$REPORT/report.md" >> "$GITHUB_STEP_SUMMARY"; fi
exit $code
