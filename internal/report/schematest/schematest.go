// Package schematest keeps published JSON Schemas equal to the Go types that they describe. A schema is derived from the source
// of the types, with the doc comments as descriptions, so that there is one place to edit; a test compares it with the published
// file, and a validator of another origin checks that documents of the type satisfy it.
package schematest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Generate returns the JSON Schema (draft 2020-12) of the struct type root, declared in the package in dir, under the given URI.
//
// Fields without omitempty are required; unknown fields are allowed, because a reader must ignore those of a later version. Pointers stand for
// absence, not for null. A string type with constants is an enumeration. The struct tag schema refines a field or its elements:
// sha256, decimal, count (0 to 2^53−1), fraction (0 to 1), or alternatives such as "a|b".
func Generate(dir, root, uri string) ([]byte, error) {
	g, err := parse(dir)
	if err != nil {
		return nil, err
	}
	schema, err := g.object(root)
	if err != nil {
		return nil, err
	}
	top := fields{{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"$id", uri}, {"title", root}}
	top = append(top, schema...)
	var defs fields
	for i := 0; i < len(g.queue); i++ { // grows while objects refer to others
		def, err := g.definition(g.queue[i])
		if err != nil {
			return nil, err
		}
		defs = append(defs, field{g.queue[i], def})
	}
	slices.SortFunc(defs, func(a, b field) int { return strings.Compare(a.key, b.key) })
	if len(defs) > 0 {
		top = append(top, field{"$defs", defs})
	}
	data, err := json.Marshal(top)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, data, "", "  "); err != nil {
		return nil, err
	}
	return append(out.Bytes(), '\n'), nil
}

// Validate returns an error where the document does not satisfy the schema, or the schema is none.
func Validate(schema, document []byte) error {
	s, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return fmt.Errorf("reading the schema: %v", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return fmt.Errorf("reading the document: %v", err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	const name = "schema.json"
	if err := c.AddResource(name, s); err != nil {
		return err
	}
	compiled, err := c.Compile(name)
	if err != nil {
		return fmt.Errorf("compiling the schema: %v", err)
	}
	return compiled.Validate(doc)
}

// field is a member of a JSON object whose members keep their order.
type field struct {
	key   string
	value any
}

type fields []field

func (f fields) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range f {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", m.key)
		var v bytes.Buffer
		enc := json.NewEncoder(&v)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(m.value); err != nil {
			return nil, err
		}
		b.Write(bytes.TrimSpace(v.Bytes()))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

type generator struct {
	types map[string]*ast.TypeSpec
	docs  map[string]string
	enums map[string][]string // type name → constants, in source order
	queue []string            // types that the schema refers to, in the order of first use
}

func parse(dir string) (*generator, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	g := &generator{types: map[string]*ast.TypeSpec{}, docs: map[string]string{}, enums: map[string][]string{}}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, decl := range file.Decls {
			if decl, ok := decl.(*ast.GenDecl); ok {
				g.add(decl)
			}
		}
	}
	if len(g.types) == 0 {
		return nil, fmt.Errorf("no Go types in %s", dir)
	}
	return g, nil
}

func (g *generator) add(decl *ast.GenDecl) {
	for _, spec := range decl.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			g.types[spec.Name.Name] = spec
			g.docs[spec.Name.Name] = oneLine(decl.Doc.Text())
		case *ast.ValueSpec:
			typ, ok := spec.Type.(*ast.Ident)
			if decl.Tok != token.CONST || !ok || len(spec.Values) != 1 {
				continue
			}
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					g.enums[typ.Name] = append(g.enums[typ.Name], s)
				}
			}
		}
	}
}

func oneLine(s string) string {
	return strings.NewReplacer("[", "", "]", "").Replace(strings.Join(strings.Fields(s), " "))
}

// definition returns the schema of a named type.
func (g *generator) definition(name string) (fields, error) {
	spec := g.types[name]
	if spec == nil {
		return nil, fmt.Errorf("type %s is not declared in the package", name)
	}
	if _, ok := spec.Type.(*ast.StructType); ok {
		return g.object(name)
	}
	out := fields{{"description", g.docs[name]}}
	if values := g.enums[name]; len(values) > 0 {
		return append(out, field{"type", "string"}, field{"enum", values}), nil
	}
	body, err := g.expr(spec.Type, "")
	return append(out, body...), err
}

func (g *generator) object(name string) (fields, error) {
	spec := g.types[name]
	if spec == nil {
		return nil, fmt.Errorf("type %s is not declared in the package", name)
	}
	st, ok := spec.Type.(*ast.StructType)
	if !ok {
		return nil, fmt.Errorf("type %s is not a struct", name)
	}
	var properties fields
	required := []string{}
	for _, f := range st.Fields.List {
		if f.Tag == nil || len(f.Names) != 1 {
			return nil, fmt.Errorf("type %s: every field needs one name and a json tag", name)
		}
		text, err := strconv.Unquote(f.Tag.Value)
		if err != nil {
			return nil, fmt.Errorf("type %s, field %s: %v", name, f.Names[0], err)
		}
		tag := reflect.StructTag(text)
		key, options, _ := strings.Cut(tag.Get("json"), ",")
		if key == "" {
			return nil, fmt.Errorf("type %s, field %s: the json tag has no name", name, f.Names[0])
		}
		if key == "-" {
			continue
		}
		value, err := g.expr(f.Type, tag.Get("schema"))
		if err != nil {
			return nil, fmt.Errorf("type %s, field %s: %v", name, f.Names[0], err)
		}
		doc := oneLine(f.Comment.Text() + f.Doc.Text())
		if doc == "" {
			return nil, fmt.Errorf("type %s, field %s: there is no comment to describe it", name, f.Names[0])
		}
		properties = append(properties, field{key, append(fields{{"description", doc}}, value...)})
		if !strings.Contains(options, "omit") {
			required = append(required, key)
		}
	}
	return fields{{"description", g.docs[name]}, {"type", "object"}, {"required", required}, {"properties", properties}}, nil
}

// expr returns the schema of a type as it is written, refined by a schema tag.
func (g *generator) expr(e ast.Expr, refine string) (fields, error) {
	switch e := e.(type) {
	case *ast.StarExpr:
		return g.expr(e.X, refine)
	case *ast.ArrayType:
		items, err := g.expr(e.Elt, refine)
		if err != nil {
			return nil, err
		}
		out := fields{{"type", "array"}, {"items", items}}
		if lit, ok := e.Len.(*ast.BasicLit); ok {
			n, err := strconv.Atoi(lit.Value)
			if err != nil {
				return nil, err
			}
			out = append(out, field{"minItems", n}, field{"maxItems", n})
		}
		return out, nil
	case *ast.MapType:
		items, err := g.expr(e.Value, refine)
		return fields{{"type", "object"}, {"additionalProperties", items}}, err
	case *ast.SelectorExpr:
		if pkg, ok := e.X.(*ast.Ident); ok && pkg.Name == "time" && e.Sel.Name == "Time" {
			return fields{{"type", "string"}, {"format", "date-time"}}, nil
		}
	case *ast.Ident:
		return g.ident(e.Name, refine)
	}
	return nil, fmt.Errorf("a type of the form %T has no schema", e)
}

func (g *generator) ident(name, refine string) (fields, error) {
	var out fields
	switch name {
	case "string":
		out = fields{{"type", "string"}}
	case "bool":
		out = fields{{"type", "boolean"}}
	case "int", "int64", "int32", "uint32", "uint64":
		out = fields{{"type", "integer"}}
	case "float64", "float32":
		out = fields{{"type", "number"}}
	default:
		if !slices.Contains(g.queue, name) {
			g.queue = append(g.queue, name)
		}
		return fields{{"$ref", "#/$defs/" + name}}, nil
	}
	switch {
	case refine == "":
	case refine == "sha256":
		out = append(out, field{"pattern", "^[0-9a-f]{64}$"})
	case refine == "decimal":
		out = append(out, field{"pattern", "^-?[0-9]+$"})
	case refine == "count":
		out = append(out, field{"minimum", 0}, field{"maximum", int64(1)<<53 - 1})
	case refine == "fraction":
		out = append(out, field{"minimum", 0}, field{"maximum", 1})
	case strings.Contains(refine, "|"):
		out = append(out, field{"enum", strings.Split(refine, "|")})
	default:
		return nil, fmt.Errorf("the schema tag %q is not known", refine)
	}
	return out, nil
}
