# What a person or a pipeline runs. "make demo" and "make test" need nothing
# but Go, a C compiler, and npm or pip for the ONNX Runtime library.

GO  ?= go
BIN := bin/lapidary

# The C headers that go-nvml carries warn about themselves.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations

.PHONY: build runtime demo test check interop interop-old corpus ledger mainjob fuse-latency prune-table aa overhead validate-zoo calibrate-memory growth bench microbench bench-peers bench-fuse bench-quantize bench-profile fuzz fuzz-short golden release release-check release-run man clean

build:
	$(GO) build -trimpath -o $(BIN) ./cmd/lapidary

# Obtains ONNX Runtime once, into the user's cache.
runtime: build
	@$(BIN) runtime install -q

# The main job on a bundled model: profile, fuse, quantize, validate, verify.
demo: runtime
	@BIN=$(BIN) sh docs/demo.sh

test: runtime
	$(GO) test -timeout 30m ./...

# Other people's verifiers and schemas, with which tests check our evidence and reports;
# those tests skip where they are missing. Builds cosign once, into the user's cache. The
# tests of PKCS#11 tokens use SoftHSM, and that of JUnit reports xmllint, system packages:
# softhsm2, libxml2-utils. The schema of SARIF is the one of OASIS (2.1.0, errata 01) that
# go-sarif carries; that of JUnit, which has no owner, is what Jenkins reads (junit-10.xsd),
# as the sources of pytest carry it.
COSIGN  := v3.1.3
COSIGN2 := v2.6.5
VERIFIERS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lapidary
interop:
	@[ -x $(VERIFIERS)/cosign-$(COSIGN)/cosign ] || \
	  GOBIN=$(VERIFIERS)/cosign-$(COSIGN) CGO_ENABLED=0 $(GO) install github.com/sigstore/cosign/v3/cmd/cosign@$(COSIGN)
	@[ -x $(VERIFIERS)/model-signing/bin/model_signing ] || { python3 -m venv $(VERIFIERS)/model-signing && \
	  $(VERIFIERS)/model-signing/bin/pip install -q model-signing==1.1.1 pyOpenSSL; }
	@[ -d $(VERIFIERS)/cyclonedx-schemas ] || { d=$$(mktemp -d) && python3 -m pip install -q --no-deps --target $$d cyclonedx-python-lib==11.12.0 && \
	  cp -r $$d/cyclonedx/schema/_res $(VERIFIERS)/cyclonedx-schemas; rm -rf $$d; }
	@[ -s $(VERIFIERS)/sarif-2.1.0.json ] || { d=$$($(GO) mod download -json github.com/owenrumney/go-sarif/v3@v3.3.1 | sed -n 's/^.*"Dir": "\(.*\)",$$/\1/p') && \
	  sed -e '1,/^const schema = `/s/^const schema = `//' -e '/^package /d' -e '/^`$$/d' "$$d/pkg/report/v210/sarif/schema.go" > $(VERIFIERS)/sarif.tmp && \
	  mv $(VERIFIERS)/sarif.tmp $(VERIFIERS)/sarif-2.1.0.json; }
	@[ -s $(VERIFIERS)/junit-10.xsd ] || { d=$$(mktemp -d) && python3 -m pip download -q --no-deps --no-binary :all: -d $$d pytest==8.4.2 && tar -xzf $$d/pytest-8.4.2.tar.gz -C $$d && \
	  cp $$d/pytest-8.4.2/testing/example_scripts/junit-10.xsd $(VERIFIERS)/; rm -rf $$d; }

# Minutes of compiling for a release line that only has to read our envelopes:
# for people, not for every run of CI.
interop-old: interop
	@[ -x $(VERIFIERS)/cosign-$(COSIGN2)/cosign ] || \
	  GOBIN=$(VERIFIERS)/cosign-$(COSIGN2) CGO_ENABLED=0 $(GO) install github.com/sigstore/cosign/v2/cmd/cosign@$(COSIGN2)

# The whole test corpus instead of a fixed fifth; needs it beside the checkout, see LAPIDARY_ZOO.
corpus: runtime
	LAPIDARY_CORPUS=all $(GO) test ./fuse ./profile ./internal/... -run 'Corpus|LoadRate|Expected|Expanded|Transforms|Probes|RuntimeShapes|OperatorTests' -v -count=1 -timeout 30m
	LAPIDARY_CORPUS=all $(GO) test ./cmd/lapidary -run TestCorpusLedger -v -count=1 -timeout 120m

# Takes every graph of the corpus through every command, and writes what is refused into cmd/lapidary/testdata/ledger.txt and
# docs/ledger.md; half an hour. LEDGER=FILE keeps what is done there and goes on from it.
ledger: runtime
	LAPIDARY_CORPUS=all LAPIDARY_LEDGER_OUT=$(abspath $(LEDGER)) $(GO) test ./cmd/lapidary -run TestCorpusLedger -v -count=1 -timeout 120m -update

# What fusing gains on real models and on misspelled operators; five minutes of a quiet machine.
fuse-latency: runtime
	LAPIDARY_FUSE_LATENCY=$(CURDIR)/$(BIN) $(GO) test ./cmd/lapidary -run TestFuseLatency -v -count=1 -timeout 30m

# The main job on the trained models of the corpus, as a table; a quarter of an hour.
mainjob: runtime
	LAPIDARY_MAINJOB=$(CURDIR)/$(BIN) $(GO) test ./cmd/lapidary -run TestMainJob -v -count=1 -timeout 60m

# Memory and rate of calibration on 100 and on 1000 pictures of 640 by 640; minutes of a quiet machine.
calibrate-memory: runtime
	LAPIDARY_MANY_IMAGES=1000 $(GO) test ./internal/calibrate -run TestManyImages -v -count=1 -timeout 60m

# Units removed from the trained models of the corpus, as a table; half an hour of a quiet machine.
prune-table: runtime
	LAPIDARY_PRUNE=$(CURDIR)/$(BIN) $(GO) test ./cmd/lapidary -run TestPruneTable -v -count=1 -timeout 60m

# How often equal models are called different on this machine, and slower ones found: 200 real validations, 16 minutes of a quiet machine.
aa: runtime
	LAPIDARY_AA=200 $(GO) test ./internal/validate -run TestAA -v -count=1 -timeout 60m

# What validating costs beyond inference, and its memory by the number of samples; needs the corpus.
overhead: runtime
	LAPIDARY_OVERHEAD=1 $(GO) test ./internal/validate -run 'TestOverhead|TestFlatMemory' -v -count=1 -timeout 30m

# Every model of the corpus that has data, fused and quantized, through validate; a quarter of an hour.
validate-zoo: runtime
	LAPIDARY_CORPUS=all $(GO) test ./cmd/lapidary -run TestValidateZoo -v -count=1 -timeout 60m

# How time and memory of every command grow with the model, from 10 MB to 4 GB and from 100 to 20,000 nodes; writes
# docs/growth.md and docs/growth.svg. Ten minutes of a quiet machine and 13 GB of disk.
growth: runtime
	@mkdir -p .bench/growth
	$(GO) build -o bin/netgen ./internal/nets/netgen
	$(GO) run ./internal/growth/growthrun -lapidary $(BIN) -netgen bin/netgen

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

check:
	@bad="$$(git ls-files '*.go' | xargs gofmt -l)"; [ -z "$$bad" ] || { echo "run gofmt -w on: $$bad"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	CGO_ENABLED=0 $(GO) build -o bin/lapidary-nocgo ./cmd/lapidary
	GOOS=windows CGO_ENABLED=0 $(GO) vet ./internal/worker ./internal/atomicfile ./internal/session ./internal/readfile

# Every number that lapidary holds itself to, beside its peers, into docs/benchmarks.md; ROWS chooses some of them. Half an hour of a quiet machine.
bench: runtime
	@[ -x .bench/peers/bin/python ] || $(MAKE) bench-peers
	.bench/peers/bin/python docs/bench/rows.py $(ROWS)

# Go benchmarks beside the hot code. To compare two commits, run it in both with COUNT=10, and
# go run golang.org/x/perf/cmd/benchstat@latest OLD NEW.
BENCH ?= .
COUNT ?= 1
microbench: runtime
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime 3x -count $(COUNT) ./...

# Puts the peers that benchmarks compare with into a virtual environment.
bench-peers:
	python3 -m venv .bench/peers
	.bench/peers/bin/pip install -q -r docs/bench/peers.txt

# Runs fuse beside its peers and writes docs/benchmarks-fuse.md. MODELS chooses some.
bench-fuse: runtime
	@[ -x .bench/peers/bin/python ] || $(MAKE) bench-peers
	@mkdir -p .bench/models
	$(GO) run ./internal/nets/netgen -o .bench/models resnet50 mobilenetv3 yolov8n gtcrn llama whisper-encoder unet vit gpt2 bert chain
	$(GO) run ./internal/nets/netgen -o .bench/models -external wide
	.bench/peers/bin/python docs/bench/fuse.py $(MODELS)

# Quantizes beside onnxruntime.quantization and writes docs/benchmarks-quantize.md; ten minutes of a quiet machine.
bench-quantize: runtime
	@[ -x .bench/peers/bin/python ] || $(MAKE) bench-peers
	.bench/peers/bin/python docs/bench/quantize.py $(MODELS)

# Counts models beside onnx-tool and writes docs/benchmarks-profile.md; five minutes of a quiet machine.
bench-profile: build
	@[ -x .bench/peers/bin/python ] || $(MAKE) bench-peers
	@mkdir -p .bench/models
	$(GO) run ./internal/nets/netgen -o .bench/models resnet50 mobilenetv3 yolov8n gtcrn llama whisper-encoder unet vit gpt2 bert chain
	.bench/peers/bin/python docs/bench/profile.py $(MODELS)

# Runs every fuzz target for FUZZTIME, or those that FUZZ names, and adds up in docs/fuzzing.md what that took and found. FUZZUPTO=30m takes only
# those that did not have half an hour of a processor in all runs, those first that had least; FUZZATONCE targets at once, of FUZZJOBS processes.
FUZZTIME   ?= 10s
FUZZ       ?=
FUZZJOBS   ?= 0
FUZZUPTO   ?= 0
FUZZATONCE ?= 1
fuzz:
	$(GO) run ./internal/fuzzing -time $(FUZZTIME) -up-to $(FUZZUPTO) -at-once $(FUZZATONCE) -name '$(FUZZ)' -parallel $(FUZZJOBS) -ledger docs/fuzzing.md

# At most a minute of fuzzing, compiling included, with another target first each day: for CI, behind the tests.
fuzz-short:
	$(GO) run ./internal/fuzzing -blind -time 2s -total 60s -rotate

# Rewrites the golden files from what the tests see now; read the difference.
golden:
	$(GO) test ./internal/report/... ./profile ./fuse ./cmd/lapidary -update
	$(GO) test ./internal/measure -run TestContrast -update

# Archives of a release for every platform that can be built here, their bills of materials and sums, signed. Without RELEASE_KEY
# by a key that is made on the spot and kept nowhere. Ten minutes.
DIST ?= dist
release: build
	@key="$(RELEASE_KEY)"; dir=; \
	if [ -z "$$key" ]; then dir=$$(mktemp -d); $(BIN) keygen -q $$dir/throwaway --unencrypted; key=$$dir/throwaway.key; fi; \
	$(GO) run ./internal/release -version $(VERSION) -o $(DIST) $(if $(ONLY),-only $(ONLY)) -key "$$key"; code=$$?; \
	if [ -n "$$dir" ]; then cp $$dir/throwaway.pub $(DIST).pub; echo "a dry run: signed by a throw-away key, $(DIST).pub"; rm -rf "$$dir"; fi; exit $$code

# That a release is the same wherever it is built: twice, in two folders that are no checkout, compared; and that its program says the commit.
release-check: export SOURCE_COMMIT = $(shell git rev-parse HEAD)
release-check: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)
release-check: build
	@a=$$(mktemp -d) && b=$$(mktemp -d) && git archive HEAD | tar -x -C $$a && git archive HEAD | tar -x -C $$b/ && \
	for d in $$a $$b; do (cd $$d && GOFLAGS=-buildvcs=false $(GO) run ./internal/release -version v0.0.0-check -o out -only $(or $(ONLY),$(shell $(GO) env GOOS)/$(shell $(GO) env GOARCH))) || exit 1; done; \
	diff $$a/out/SHA256SUMS $$b/out/SHA256SUMS && cat $$a/out/SHA256SUMS && echo "the same bytes twice" && \
	$(if $(ONLY),:,tar -xzf $$a/out/*_static.tar.gz -C $$a --strip-components 1 && $$a/lapidary version | grep "commit   $$SOURCE_COMMIT$$"); code=$$?; rm -rf $$a $$b; exit $$code

# Runs the programs of the release in DIST: those of linux/arm64 under qemu-aarch64, those of Windows under Wine, where these are here.
# On Debian: qemu-user libc6-arm64-cross libstdc++6-arm64-cross wine wine64 gcc-mingw-w64-x86-64. A quarter of an hour.
release-run:
	LAPIDARY_RELEASE=$(abspath $(DIST)) $(GO) test ./internal/release -run TestReleaseRuns -v -count=1 -timeout 60m

man: build
	$(BIN) man bin/man

clean:
	rm -rf bin .bench
