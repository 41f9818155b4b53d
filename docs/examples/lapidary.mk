# Targets for a repository that keeps a model: optimize, validate, verify. In the Makefile:
#
#	LAPIDARY_MODEL    := models/model.onnx
#	LAPIDARY_CALIBRATE := data/calibration.npz
#	LAPIDARY_HOLDOUT  := data/holdout.npz
#	include lapidary.mk
#
# Each step runs again only where one of the files that it reads has changed. Gates come from LAPIDARY_GATES or lapidary.yaml.

LAPIDARY           ?= lapidary
LAPIDARY_MODEL     ?= model.onnx
LAPIDARY_CALIBRATE ?= data/calibration.npz
LAPIDARY_HOLDOUT   ?= data/holdout.npz
LAPIDARY_OUT       ?= build
LAPIDARY_KEY       ?= release
LAPIDARY_OPTIMIZE  ?= --to int8
LAPIDARY_GATES     ?= --max-drop 1pt --max-latency-ratio 1.05
LAPIDARY_VALIDATE  ?=

LAPIDARY_CANDIDATE := $(LAPIDARY_OUT)/$(basename $(notdir $(LAPIDARY_MODEL))).candidate.onnx
LAPIDARY_REPORT    := $(LAPIDARY_OUT)/report
LAPIDARY_EVIDENCE  := $(LAPIDARY_REPORT)/evidence.sigstore.json
LAPIDARY_CONFIG    := $(wildcard lapidary.yaml)

.PHONY: optimize validate verify lapidary-clean
optimize: $(LAPIDARY_CANDIDATE)
validate: $(LAPIDARY_OUT)/validated
verify: $(LAPIDARY_OUT)/verified

$(LAPIDARY_CANDIDATE): $(LAPIDARY_MODEL) $(LAPIDARY_CALIBRATE) $(LAPIDARY_CONFIG)
	@mkdir -p $(@D)
	$(LAPIDARY) quantize $(LAPIDARY_MODEL) -o $@ --data $(LAPIDARY_CALIBRATE) $(LAPIDARY_OPTIMIZE)

# A gate that fails stops here, with the report written; the stamp is made only where every gate passed.
$(LAPIDARY_OUT)/validated: $(LAPIDARY_CANDIDATE) $(LAPIDARY_HOLDOUT) $(LAPIDARY_KEY).key $(LAPIDARY_CONFIG)
	$(LAPIDARY) validate $(LAPIDARY_MODEL) $(LAPIDARY_CANDIDATE) --data $(LAPIDARY_HOLDOUT) --calibration-data $(LAPIDARY_CALIBRATE) \
	  $(LAPIDARY_GATES) $(LAPIDARY_VALIDATE) --report $(LAPIDARY_REPORT) --sign $(LAPIDARY_KEY).key
	@touch $@

# The gates are evaluated again on the signed numbers, and the bytes of the candidate compared.
$(LAPIDARY_OUT)/verified: $(LAPIDARY_OUT)/validated $(LAPIDARY_KEY).pub
	$(LAPIDARY) verify $(LAPIDARY_EVIDENCE) --key $(LAPIDARY_KEY).pub --model $(LAPIDARY_CANDIDATE)
	@touch $@

lapidary-clean:
	rm -rf $(LAPIDARY_REPORT) $(LAPIDARY_OUT)/validated $(LAPIDARY_OUT)/verified $(LAPIDARY_CANDIDATE)
