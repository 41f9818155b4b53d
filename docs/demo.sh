#!/bin/sh
# The main job, as a user runs it, on a model that this repository trained:
# profile, fuse, prune, quantize, validate on held-out data, sign, verify.
set -eu
bin=${BIN:-bin/lapidary}
out=${OUT:-bin/demo}
data=testdata
rm -rf "$out"
mkdir -p "$out"

say() { printf '\n$ %s\n' "$*"; "$@"; }

say "$bin" profile $data/digits-cnn.onnx --static
say "$bin" fuse $data/digits-cnn.onnx -o "$out/fused.onnx" --data $data/digits-calib.npz
say "$bin" prune "$out/fused.onnx" -o "$out/pruned.onnx" --sparsity 0.2 --data $data/digits-calib.npz
say "$bin" quantize "$out/pruned.onnx" -o "$out/fp16.onnx" --to fp16 --data $data/digits-calib.npz
say "$bin" quantize "$out/pruned.onnx" -o "$out/int8.onnx" --to int8 --for size --data $data/digits-calib.npz
say "$bin" keygen "$out/demo" --unencrypted
status=0
say "$bin" validate $data/digits-cnn.onnx "$out/int8.onnx" --data $data/digits-val.npz \
  --calibration-data $data/digits-calib.npz --max-drop 2pt --max-bytes-ratio 0.5 \
  --report "$out/report" --sign "$out/demo.key" || status=$?
# 3 and 4 are verdicts, and verify repeats them; anything else is a failure.
[ $status -eq 0 ] || [ $status -eq 3 ] || [ $status -eq 4 ] || exit $status
say "$bin" verify "$out/report/evidence.sigstore.json" --key "$out/demo.pub" --model "$out/int8.onnx"
printf '\nThe report is in %s/report: open report.html.\n' "$out"
