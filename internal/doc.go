// Package internal holds the parts that lapidary's commands are made of; its
// test enforces who may import whom.
package internal
