package profile

import (
	"encoding/json"
	"fmt"
)

const (
	// SchemaURI names the JSON Schema of a profile; the schema itself is docs/schemas/profile-v1.json.
	SchemaURI = "https://lapidary-ml.github.io/schemas/profile-v1.json"

	// SchemaVersion is the version of the fields. A reader of 1.x must accept every 1.y and ignore fields it does not know.
	SchemaVersion = "1.0"
)

// maxCount is the largest count: what every JSON reader holds exactly. Larger results saturate.
const maxCount = 1<<53 - 1

// A Profile is what was found out about a model, as one document.
type Profile struct {
	Schema        string         `json:"schema"`             // URI of the JSON Schema of this document
	SchemaVersion string         `json:"schemaVersion"`      // version of the fields, major.minor
	Static        *StaticProfile `json:"static,omitempty"`   // what the file says
	Timed         *TimedProfile  `json:"timed,omitempty"`    // what running it took; absent where it was not run
	Sweep         *Sweep         `json:"sweep,omitempty"`    // the same under several settings; absent where none was varied
	Load          *Load          `json:"load,omitempty"`     // under requests that arrive by themselves; absent where no load was asked for
	Machine       *MachineFacts  `json:"machine,omitempty"`  // the processors that it ran on
	Roofline      *Roofline      `json:"roofline,omitempty"` // how far it is from what the machine could do
	GPU           *GPUFacts      `json:"gpu,omitempty"`      // the GPU that it ran on, or why there is none
	Cost          *Cost          `json:"cost,omitempty"`     // of inferences, at the prices that were given
	Advice        *Advice        `json:"advice,omitempty"`   // what to do about it
}

// New returns the document that holds the two parts, either of which may be nil.
func New(s *StaticProfile, t *TimedProfile) *Profile {
	return &Profile{Schema: SchemaURI, SchemaVersion: SchemaVersion, Static: s, Timed: t}
}

// JSON returns the document, indented and with a final line feed.
func (p *Profile) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the profile: %v", err)
	}
	return append(b, '\n'), nil
}

// plus adds two counts, saturating.
func plus(a, b int64) int64 {
	if a < 0 || b < 0 || a > maxCount-b {
		return maxCount
	}
	return a + b
}

// times multiplies two counts, saturating.
func times(a, b int64) int64 {
	switch {
	case a <= 0 || b <= 0:
		return 0
	case a > maxCount/b:
		return maxCount
	}
	return a * b
}
