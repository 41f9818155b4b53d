#include "textflag.h"

// func extentSame8(src *byte, n int, hi *[8]int32, lo *[8]uint32)
TEXT ·extentSame8(SB), NOSPLIT, $0-32
	MOVQ src+0(FP), SI
	MOVQ n+8(FP), CX
	MOVQ hi+16(FP), R8
	MOVQ lo+24(FP), R9
	VMOVDQU (R8), Y1
	VMOVDQU (R9), Y2

same:
	VMOVDQU (SI), Y0
	VPMAXSD Y0, Y1, Y1
	VPMAXUD Y0, Y2, Y2
	ADDQ    $32, SI
	SUBQ    $8, CX
	JNZ     same
	VMOVDQU Y1, (R8)
	VMOVDQU Y2, (R9)
	VZEROUPPER
	RET

// func extentEach8(src *byte, n int, peak *uint32, hi *[8]int32, lo *[8]uint32)
TEXT ·extentEach8(SB), NOSPLIT, $0-40
	MOVQ src+0(FP), SI
	MOVQ n+8(FP), CX
	MOVQ peak+16(FP), DI
	MOVQ hi+24(FP), R8
	MOVQ lo+32(FP), R9
	VMOVDQU  (R8), Y1
	VMOVDQU  (R9), Y2
	VPCMPEQD Y3, Y3, Y3
	VPSRLD   $1, Y3, Y3 // all bits but the sign

each:
	VMOVDQU (SI), Y0
	VPMAXSD Y0, Y1, Y1
	VPMAXUD Y0, Y2, Y2
	VPAND   Y3, Y0, Y0
	VPMAXUD (DI), Y0, Y0
	VMOVDQU Y0, (DI)
	ADDQ    $32, SI
	ADDQ    $32, DI
	SUBQ    $8, CX
	JNZ     each
	VMOVDQU Y1, (R8)
	VMOVDQU Y2, (R9)
	VZEROUPPER
	RET

// Codes the eight quotients of Y0: at most the limit in Y2, at least that in Y3,
// rounded half to even.
#define CODE8 \
	VMINPS Y2, Y0, Y0           \
	VMAXPS Y3, Y0, Y0           \
	VCVTPS2DQ Y0, Y0            \
	VEXTRACTI128 $1, Y0, X4     \
	VPACKSSDW X4, X0, X0        \
	VPACKSSWB X0, X0, X0        \
	VMOVQ X0, (DI)              \
	ADDQ $32, SI                \
	ADDQ $8, DI

// Makes of the limit in Y2 that below zero in Y3.
#define LIMITS \
	VPCMPEQD Y4, Y4, Y4         \
	VPSLLD $31, Y4, Y4          \
	VXORPS Y4, Y2, Y3

// func codesSame8(dst, src *byte, n int, scale, limit float32)
TEXT ·codesSame8(SB), NOSPLIT, $0-32
	MOVQ         dst+0(FP), DI
	MOVQ         src+8(FP), SI
	MOVQ         n+16(FP), CX
	VBROADCASTSS scale+24(FP), Y1
	VBROADCASTSS limit+28(FP), Y2
	LIMITS

one:
	VMOVUPS (SI), Y0
	VDIVPS  Y1, Y0, Y0
	CODE8
	SUBQ    $8, CX
	JNZ     one
	VZEROUPPER
	RET

// func codesEach8(dst, src *byte, n int, scales *float32, limit float32)
TEXT ·codesEach8(SB), NOSPLIT, $0-36
	MOVQ         dst+0(FP), DI
	MOVQ         src+8(FP), SI
	MOVQ         n+16(FP), CX
	MOVQ         scales+24(FP), R8
	VBROADCASTSS limit+32(FP), Y2
	LIMITS

many:
	VMOVUPS (SI), Y0
	VDIVPS  (R8), Y0, Y0
	ADDQ    $32, R8
	CODE8
	SUBQ    $8, CX
	JNZ     many
	VZEROUPPER
	RET

// func nearest8(dst *byte, w *float32, n int, inverse, zero, top float32)
TEXT ·nearest8(SB), NOSPLIT, $0-36
	MOVQ         dst+0(FP), DI
	MOVQ         w+8(FP), SI
	MOVQ         n+16(FP), CX
	VBROADCASTSS inverse+24(FP), Y1
	VBROADCASTSS zero+28(FP), Y2
	VBROADCASTSS top+32(FP), Y3
	VXORPS       Y4, Y4, Y4
	VPCMPEQD     Y5, Y5, Y5
	VPSLLD       $26, Y5, Y5
	VPSRLD       $2, Y5, Y5 // 0.5 in each

near:
	VMULPS       (SI), Y1, Y0
	VADDPS       Y2, Y0, Y0
	VMAXPS       Y4, Y0, Y0 // 0 for what is not a number
	VMINPS       Y3, Y0, Y0
	VROUNDPS     $3, Y0, Y6 // toward zero
	VSUBPS       Y6, Y0, Y7
	VCMPPS       $13, Y5, Y7, Y7 // all bits, which are -1, from a half on
	VCVTTPS2DQ   Y6, Y6
	VPSUBD       Y7, Y6, Y6
	VEXTRACTI128 $1, Y6, X7
	VPACKSSDW    X7, X6, X6
	VPACKUSWB    X6, X6, X6
	VMOVQ        X6, (DI)
	ADDQ         $32, SI
	ADDQ         $8, DI
	SUBQ         $8, CX
	JNZ          near
	VZEROUPPER
	RET
