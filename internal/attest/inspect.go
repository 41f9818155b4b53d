package attest

// Inspect returns the statement in a bundle or an envelope, whoever signed it and whether or not the signature is good: to look at
// it, never to act on it. What Verify would refuse by its form alone is refused here too. The error is a [*RejectedError].
func Inspect(evidence []byte) (Statement, error) {
	env, _, err := parseEvidence(evidence)
	if err != nil {
		return Statement{}, rejectf(ReasonParse, "%v", err)
	}
	payload, _, err := env.open()
	if err != nil {
		return Statement{}, rejectf(ReasonParse, "%v", err)
	}
	st, err := parseStatement(payload)
	if err != nil {
		return Statement{}, rejectf(ReasonSchema, "the statement is not acceptable: %v", err)
	}
	return st, nil
}
