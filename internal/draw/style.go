package draw

import (
	_ "embed"
	"html/template"
)

// Style is the style sheet of a page: its two themes, print, text, tables and the classes of drawings. It names nothing outside
// of the page. A page adds its own rules after it.
//
//go:embed style.css
var Style template.CSS
