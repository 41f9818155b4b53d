// Package algebra reads the arithmetic of a graph as expressions in a canonical
// form, so that all spellings of one formula look the same.
//
// An expression is a sum of monomials; a monomial is a number times powers of
// atoms; an atom is a value of the graph or a function of expressions, such as
// erf of one. Products are multiplied out, differences are sums with negative
// numbers, quotients are powers of −1, roots are powers of ½. What is computed
// differently but is the same formula over the reals has one form; it may differ
// in rounding, and where an intermediate result overflows. No step changes where a formula is defined: x/x stays as it is,
// and the root of a square is no more than that.
//
// Who looks for a formula chooses the value that is its variable, reads the rest
// in terms of it ([Reader.Of]), builds what it expects with the functions of this
// package, and compares ([Close]). A function that is one thing below 0 and another
// above is compared case by case ([In]): bounds, sizes and choices have no form in
// common otherwise.
package algebra
