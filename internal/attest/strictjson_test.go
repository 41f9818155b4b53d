package attest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type inner struct {
	Name string `json:"name"`
	N    int    `json:"n,omitempty"`
}

type Embedded struct {
	Shared string `json:"shared"`
}

type document struct {
	Embedded
	Inner    inner            `json:"inner"`
	Pointer  *inner           `json:"pointer"`
	List     []inner          `json:"list"`
	Map      map[string]inner `json:"map"`
	Raw      json.RawMessage  `json:"raw"`
	When     time.Time        `json:"when"`
	Any      any              `json:"any"`
	Untagged string
	Hidden   string `json:"-"`
	private  string //lint:ignore U1000 it is there to be left alone
}

func TestUnmarshalStrict(t *testing.T) {
	data := `{"shared":"s","inner":{"name":"a","n":1},"pointer":{"name":"b"},"list":[{"name":"c"},{}],
		"map":{"k":{"name":"d"},"K":{"name":"e"}},"raw":{"x":[1],"X":2},"when":"2026-01-02T03:04:05Z",
		"any":{"q":[{"r":null}]},"Untagged":"u"}`
	want := document{
		Embedded: Embedded{"s"}, Inner: inner{"a", 1}, Pointer: &inner{Name: "b"}, List: []inner{{Name: "c"}, {}},
		Map: map[string]inner{"k": {Name: "d"}, "K": {Name: "e"}}, Raw: json.RawMessage(`{"x":[1],"X":2}`),
		When: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Untagged: "u",
		Any: map[string]any{"q": []any{map[string]any{"r": nil}}},
	}
	var got document
	if err := UnmarshalStrict([]byte(data), &got, JSONOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(document{})); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
}

func TestUnmarshalStrictRefused(t *testing.T) {
	tests := map[string]struct {
		data    string
		options JSONOptions
		want    string
	}{
		"empty":                 {"", JSONOptions{}, "not valid JSON"},
		"truncated":             {`{"inner":{"na`, JSONOptions{}, "not valid JSON"},
		"trailing value":        {`{} {}`, JSONOptions{}, "not valid JSON"},
		"trailing comma":        {`{"list":[{},]}`, JSONOptions{}, "not valid JSON"},
		"trailing zero byte":    {"{}\x00", JSONOptions{}, "not valid JSON"},
		"byte order mark":       {"\ufeff{}", JSONOptions{}, "not valid JSON"},
		"invalid UTF-8":         {"{\"shared\":\"\xff\"}", JSONOptions{}, "not valid UTF-8"},
		"repeated":              {`{"shared":"a","shared":"a"}`, JSONOptions{}, `field "shared" appears twice`},
		"repeated by escape":    {`{"shared":"a","sh\u0061red":"b"}`, JSONOptions{}, `field "shared" appears twice`},
		"repeated in struct":    {`{"inner":{"name":"a","name":"b"}}`, JSONOptions{}, `inner: field "name" appears twice`},
		"repeated in list":      {`{"list":[{},{"name":"a","name":"b"}]}`, JSONOptions{}, `list[1]: field "name" appears twice`},
		"repeated in map":       {`{"map":{"k":{},"k":{}}}`, JSONOptions{}, `map: field "k" appears twice`},
		"repeated in raw":       {`{"raw":[[{"x":{"y":1,"y":1}}]]}`, JSONOptions{}, `raw[0][0].x: field "y" appears twice`},
		"repeated in any":       {`{"any":{"y":1,"y":1}}`, JSONOptions{}, `any: field "y" appears twice`},
		"repeated in unknown":   {`{"zzz":{"y":1,"y":1}}`, JSONOptions{AllowUnknown: true}, `zzz: field "y" appears twice`},
		"misspelt":              {`{"Shared":"a"}`, JSONOptions{AllowUnknown: true}, `field "Shared" must be spelt "shared"`},
		"misspelt beside":       {`{"shared":"a","SHARED":"b"}`, JSONOptions{}, `field "SHARED" must be spelt "shared"`},
		"misspelt in pointer":   {`{"pointer":{"Name":"a"}}`, JSONOptions{}, `pointer: field "Name" must be spelt "name"`},
		"misspelt in list":      {`{"list":[{"NAME":"a"}]}`, JSONOptions{}, `list[0]: field "NAME" must be spelt "name"`},
		"misspelt in map":       {`{"map":{"k":{"NAME":"a"}}}`, JSONOptions{}, `map.k: field "NAME" must be spelt "name"`},
		"misspelt by long s":    {`{"ſhared":"a"}`, JSONOptions{AllowUnknown: true}, `must be spelt "shared"`},
		"unknown":               {`{"other":1}`, JSONOptions{}, `unknown field "other"`},
		"unknown inside":        {`{"inner":{"other":1}}`, JSONOptions{}, `inner: unknown field "other"`},
		"unexported":            {`{"private":"x"}`, JSONOptions{}, `unknown field "private"`},
		"excluded":              {`{"Hidden":"x"}`, JSONOptions{}, `unknown field "Hidden"`},
		"wrong type":            {`{"shared":1}`, JSONOptions{}, "number"},
		"number out of range":   {`{"inner":{"n":1e400}}`, JSONOptions{}, "number"},
		"too large":             {`{"shared":"0123456789"}`, JSONOptions{MaxBytes: 22}, "23 bytes of JSON, at most 22"},
		"too deep":              {`{"any":[[1]]}`, JSONOptions{MaxDepth: 2}, "any[0]: nested more than 2 deep"},
		"too deep by default":   {strings.Repeat("[", 65) + strings.Repeat("]", 65), JSONOptions{}, "nested more than 64 deep"},
		"far too deep":          {strings.Repeat("[", 1<<20), JSONOptions{}, "not valid JSON"},
		"object for a list":     {`{"list":{"name":"x"}}`, JSONOptions{}, "object"},
		"list for a struct":     {`{"inner":[{"name":"x"}]}`, JSONOptions{}, "array"},
		"raw far too deep":      {`{"raw":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, JSONOptions{}, "nested more than 64 deep"},
		"unknown far too deep":  {`{"zz":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, JSONOptions{AllowUnknown: true}, "nested more than 64 deep"},
		"repeated after escape": {`{"raw":{"\u00e9":1,"é":2}}`, JSONOptions{}, `field "é" appears twice`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := UnmarshalStrict([]byte(tt.data), new(document), tt.options)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestUnmarshalStrictAllowed(t *testing.T) {
	tests := map[string]struct {
		data    string
		options JSONOptions
	}{
		"unknown, when allowed": {`{"other":{"a":[1]},"inner":{"more":1}}`, JSONOptions{AllowUnknown: true}},
		"as large as allowed":   {`{"shared":"0123456789"}`, JSONOptions{MaxBytes: 23}},
		"as deep as allowed":    {`{"any":[1]}`, JSONOptions{MaxDepth: 2}},
		"null":                  {`null`, JSONOptions{}},
		"cases in a map":        {`{"raw":{"a":1,"A":2}}`, JSONOptions{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := UnmarshalStrict([]byte(tt.data), new(document), tt.options); err != nil {
				t.Error(err)
			}
		})
	}
}
