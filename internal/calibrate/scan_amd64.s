#include "textflag.h"

// func scanAVX2(p *byte, n int, t *totals)
//
// Eight float32 at once: each sum has four lanes, and lane j takes elements j and j+4
// added up, as scanGo does it.
TEXT ·scanAVX2(SB), NOSPLIT, $0-24
	MOVQ    p+0(FP), SI
	MOVQ    n+8(FP), CX
	MOVQ    t+16(FP), DI
	VMOVUPS (DI), Y1    // least
	VMOVUPS 32(DI), Y2  // largest
	VMOVUPD 64(DI), Y3  // sums
	VMOVUPD 96(DI), Y4  // sums of squares

loop:
	VMOVUPS      (SI), Y0
	VMINPS       Y1, Y0, Y1
	VMAXPS       Y2, Y0, Y2
	VCVTPS2PD    X0, Y5
	VEXTRACTF128 $1, Y0, X6
	VCVTPS2PD    X6, Y6
	VADDPD       Y6, Y5, Y7
	VADDPD       Y7, Y3, Y3
	VMULPD       Y5, Y5, Y5
	VMULPD       Y6, Y6, Y6
	VADDPD       Y6, Y5, Y5
	VADDPD       Y5, Y4, Y4
	ADDQ         $32, SI
	SUBQ         $8, CX
	JNZ          loop

	VMOVUPS Y1, (DI)
	VMOVUPS Y2, 32(DI)
	VMOVUPD Y3, 64(DI)
	VMOVUPD Y4, 96(DI)
	VZEROUPPER
	RET

// func binsAVX2(p *byte, n int, scale, first float64, bins *uint32) (zeros int)
TEXT ·binsAVX2(SB), NOSPLIT, $0-48
	MOVQ         p+0(FP), SI
	MOVQ         n+8(FP), CX
	VBROADCASTSD scale+16(FP), Y1
	VBROADCASTSD first+24(FP), Y2
	MOVQ         bins+32(FP), DI
	VXORPS       Y3, Y3, Y3
	XORQ         BX, BX

next:
	VMOVUPS      (SI), Y0
	VCMPPS       $0, Y3, Y0, Y6
	VMOVMSKPS    Y6, AX
	POPCNTL      AX, AX
	ADDQ         AX, BX
	VCVTPS2PD    X0, Y4
	VEXTRACTF128 $1, Y0, X5
	VCVTPS2PD    X5, Y5
	VMULPD       Y1, Y4, Y4
	VMULPD       Y1, Y5, Y5
	VSUBPD       Y2, Y4, Y4
	VSUBPD       Y2, Y5, Y5
	VCVTTPD2DQY  Y4, X4
	VCVTTPD2DQY  Y5, X5
	VMOVDQU      X4, (DI)
	VMOVDQU      X5, 16(DI)
	ADDQ         $32, SI
	ADDQ         $32, DI
	SUBQ         $8, CX
	JNZ          next

	MOVQ BX, zeros+40(FP)
	VZEROUPPER
	RET
