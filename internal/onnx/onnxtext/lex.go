package onnxtext

import (
	"bytes"
	"fmt"
	"strconv"
)

// SyntaxError says what is wrong with a text, and where.
type SyntaxError struct {
	File      string
	Line, Col int // from 1; Col counts bytes
	Msg       string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg)
}

// tokenKind classifies tokens.
type tokenKind uint8

const (
	tokEOF tokenKind = iota
	tokIdent
	tokInt   // decimal or 0x…, perhaps signed
	tokFloat // with a point or an exponent
	tokString
	tokPunct // one character, or =>
)

// token is one word of the text. text is the source, of a string its value.
type token struct {
	kind tokenKind
	text string
	pos  int
}

func (t token) describe() string {
	switch t.kind {
	case tokEOF:
		return "the end of the text"
	case tokString:
		return "a string"
	}
	return strconv.Quote(t.text)
}

// lexer splits a text into tokens.
type lexer struct {
	file string
	src  []byte
	at   int
	tok  token // the next token
	err  error // the first error; all tokens after it are tokEOF
}

// errorAt records an error at a position, the first one only.
func (l *lexer) errorAt(pos int, format string, args ...any) {
	if l.err != nil {
		return
	}
	before := l.src[:pos]
	l.err = &SyntaxError{l.file, 1 + bytes.Count(before, []byte("\n")), pos - bytes.LastIndexByte(before, '\n'),
		fmt.Sprintf(format, args...)}
	l.at = len(l.src)
	l.tok = token{pos: pos}
}

// errorf records an error at the next token.
func (l *lexer) errorf(format string, args ...any) { l.errorAt(l.tok.pos, format, args...) }

// next reads the next token into l.tok and returns the one before.
func (l *lexer) next() token {
	old := l.tok
	if l.err != nil {
		return old
	}
	l.space()
	pos := l.at
	if pos == len(l.src) {
		l.tok = token{pos: pos}
		return old
	}
	switch c := l.src[pos]; {
	case c == '"':
		l.string()
	case c >= '0' && c <= '9', (c == '-' || c == '+' || c == '.') && l.digitAfter(pos):
		l.number()
	case identByte(c):
		for l.at < len(l.src) && identByte(l.src[l.at]) {
			l.at++
		}
		l.tok = token{tokIdent, string(l.src[pos:l.at]), pos}
	case c == '=' && bytes.HasPrefix(l.src[pos:], []byte("=>")):
		l.at += 2
		l.tok = token{tokPunct, "=>", pos}
	default:
		l.at++
		l.tok = token{tokPunct, string(l.src[pos:l.at]), pos}
	}
	return old
}

// space skips white space and comments.
func (l *lexer) space() {
	for l.at < len(l.src) {
		switch l.src[l.at] {
		case ' ', '\t', '\r', '\n':
			l.at++
		case '#':
			for l.at < len(l.src) && l.src[l.at] != '\n' {
				l.at++
			}
		default:
			return
		}
	}
}

// digitAfter reports whether a digit, perhaps behind a point, follows the character at i.
func (l *lexer) digitAfter(i int) bool {
	i++
	if i < len(l.src) && l.src[i] == '.' && l.src[i-1] != '.' {
		i++
	}
	return i < len(l.src) && l.src[i] >= '0' && l.src[i] <= '9'
}

func (l *lexer) number() {
	pos := l.at
	kind := tokInt
	l.at++
	hex := l.src[pos] == '0' && l.at < len(l.src) && l.src[l.at] == 'x'
	for ; l.at < len(l.src); l.at++ {
		c := l.src[l.at]
		sign := (c == '-' || c == '+') && (l.src[l.at-1] == 'e' || l.src[l.at-1] == 'E') && !hex
		if !identByte(c) && c != '.' && !sign {
			break
		}
		if !hex && (c == '.' || c == 'e' || c == 'E') {
			kind = tokFloat
		}
	}
	if l.src[pos] == '.' {
		kind = tokFloat
	}
	l.tok = token{kind, string(l.src[pos:l.at]), pos}
}

func (l *lexer) string() {
	pos := l.at
	var out []byte
	for i := pos + 1; i < len(l.src); i++ {
		switch c := l.src[i]; c {
		case '"':
			l.at = i + 1
			l.tok = token{tokString, string(out), pos}
			return
		case '\\':
			i++
			if i == len(l.src) {
				break
			}
			b, n, ok := unescape(l.src[i:])
			if !ok {
				l.errorAt(i-1, "malformed escape in a string")
				return
			}
			out = append(out, b)
			i += n - 1
		default:
			out = append(out, c)
		}
	}
	l.errorAt(pos, "the string does not end")
}

// unescape returns the byte that the characters behind a backslash stand for
// and how many they are.
func unescape(s []byte) (b byte, n int, ok bool) {
	switch s[0] {
	case 'n':
		return '\n', 1, true
	case 'r':
		return '\r', 1, true
	case 't':
		return '\t', 1, true
	case 'x':
		if len(s) < 3 {
			return 0, 0, false
		}
		v, err := strconv.ParseUint(string(s[1:3]), 16, 8)
		return byte(v), 3, err == nil
	}
	return s[0], 1, true
}

// is reports whether the next token is the punctuation s.
func (l *lexer) is(s string) bool { return l.tok.kind == tokPunct && l.tok.text == s }

// accept skips the punctuation s where it is next.
func (l *lexer) accept(s string) bool {
	if !l.is(s) {
		return false
	}
	l.next()
	return true
}

// expect skips the punctuation s, which must be next.
func (l *lexer) expect(s string) {
	if !l.accept(s) {
		l.errorf("want %q, have %s", s, l.tok.describe())
	}
}

// list reads items between open and shut, separated by commas, and calls item at each.
func (l *lexer) list(open, shut string, item func()) {
	l.expect(open)
	for l.err == nil && !l.accept(shut) {
		item()
		if !l.accept(",") && !l.is(shut) {
			l.errorf("want \",\" or %q, have %s", shut, l.tok.describe())
		}
	}
}
