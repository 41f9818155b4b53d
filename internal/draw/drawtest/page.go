package drawtest

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Problems returns what is wrong with a page for a reader who cannot see it, has no network or prints it: headings that skip a
// level, tables without a caption or headings, drawings without words, labels and links to nothing, identifiers given twice,
// regions that scroll and cannot be reached by keyboard, and anything that would be loaded from elsewhere. It needs no browser.
func Problems(page []byte) []string {
	p := &reader{ids: map[string]int{}, seen: map[string]int{}}
	for _, bad := range []string{"<script", "@import", "url(", "http-equiv=\"refresh"} {
		if strings.Contains(string(page), bad) {
			p.fault("the page contains %q", bad)
		}
	}
	dec := xml.NewDecoder(strings.NewReader(string(page)))
	dec.Strict = false
	dec.AutoClose = []string{"meta", "br", "wbr", "link"}
	dec.Entity = xml.HTMLEntity
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			p.fault("the page is not well formed: %v", err)
			break
		}
		switch token := token.(type) {
		case xml.StartElement:
			p.open(token)
		case xml.EndElement:
			p.close(token.Name.Local)
		case xml.CharData:
			p.text.Write(token)
		}
	}
	p.finish()
	return p.faults
}

// reader goes through a page element by element.
type reader struct {
	faults  []string
	ids     map[string]int // how often each identifier is given
	refs    []string       // identifiers that are referred to
	seen    map[string]int // elements by name
	heading int            // level of the last heading
	text    strings.Builder
	head    int  // columns of the table that is open
	cells   int  // cells of the row that is open
	caption bool // of the table that is open
}

func (p *reader) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func (p *reader) open(e xml.StartElement) {
	name := e.Name.Local
	if name != "title" || p.seen["body"] == 0 { // drawings have titles too
		p.seen[name]++
	}
	if id := attr(e, "id"); id != "" {
		p.ids[id]++
	}
	p.refs = append(p.refs, strings.Fields(attr(e, "aria-labelledby"))...)
	if attr(e, "src") != "" || attr(e, "srcset") != "" || name == "link" || name == "iframe" || name == "object" || name == "embed" {
		p.fault("<%s> loads something", name)
	}
	if target := attr(e, "href"); target != "" {
		id, inside := strings.CutPrefix(target, "#")
		if !inside {
			p.fault("a link leads out of the page, to %s", target)
		}
		p.refs = append(p.refs, id)
	}
	if slices.Contains(strings.Fields(attr(e, "class")), "scroll") && (attr(e, "tabindex") != "0" || attr(e, "aria-label") == "" || attr(e, "role") == "") {
		p.fault("a region that scrolls cannot be reached by keyboard, or has no name")
	}
	switch name {
	case "html":
		if attr(e, "lang") == "" {
			p.fault("the page does not say its language")
		}
	case "h1", "h2", "h3", "h4", "h5", "h6":
		level := int(name[1] - '0')
		if level > p.heading+1 {
			p.fault("heading %s follows a heading of level %d", name, p.heading)
		}
		p.heading = level
	case "table":
		p.caption, p.head = false, 0
	case "caption":
		p.caption = true
	case "tr":
		p.cells = 0
	case "th", "td":
		if p.cells++; name == "th" && attr(e, "scope") == "" {
			p.fault("a heading of a table does not say what it heads")
		}
	case "svg":
		if attr(e, "role") != "img" || len(strings.Fields(attr(e, "aria-labelledby"))) != 2 {
			p.fault("a drawing has no title and description")
		}
	}
	if p.seen["body"] > 0 || name == "title" {
		p.text.Reset()
	}
}

func (p *reader) close(name string) {
	words := strings.TrimSpace(p.text.String())
	switch name {
	case "h1", "h2", "h3", "h4", "caption", "title", "desc", "summary", "a", "figcaption":
		if words == "" {
			p.fault("an empty <%s>", name)
		}
	case "tr":
		if p.head == 0 {
			p.head = p.cells
		} else if p.cells != p.head {
			p.fault("a row of a table has %d cells where its head has %d", p.cells, p.head)
		}
	case "table":
		if !p.caption {
			p.fault("a table has no caption")
		}
	}
}

func (p *reader) finish() {
	for id, n := range p.ids {
		if n > 1 {
			p.fault("the id %q is given %d times", id, n)
		}
	}
	for _, ref := range p.refs {
		if p.ids[ref] == 0 {
			p.fault("%q is referred to, and no element has this id", ref)
		}
	}
	for _, name := range []string{"main", "h1", "title"} {
		if name != "title" && p.seen[name] != 1 || p.seen[name] == 0 {
			p.fault("the page has %d <%s>, want 1", p.seen[name], name)
		}
	}
	slices.Sort(p.faults)
}
