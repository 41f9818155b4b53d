# prints golden codes of onnxruntime's block quantizer for the weights of blocks_test.go
import numpy as np, onnxruntime
from onnxruntime.capi._pybind_state import quantize_matmul_2bits,quantize_matmul_4bits,quantize_matmul_8bits
M=(1<<64)-1
def noise(i):
    x=((i+1)*0x9e3779b97f4a7c15)&M
    x=((x^(x>>30))*0xbf58476d1ce4e5b9)&M
    x=((x^(x>>27))*0x94d049bb133111eb)&M
    x=x^(x>>31)
    if x>=1<<63: x-=1<<64
    return x/float(1<<63)
def weights(K,N):
    w=np.array([np.float32(noise(i)) for i in range(K*N)],np.float32).reshape(K,N)
    w[:,0]=0                                   # a channel of zeros
    w[:,1]=np.abs(w[:,1])                      # one above zero
    w[:,2]=np.round(w[:,2]*8)/8                # ties
    w[:,3]=np.round(w[:,3]*16)/16+np.float32(.25)
    return w
print("# onnxruntime",onnxruntime.__version__,"quantize_matmul_{2,4,8}bits: bits block symmetric K N codes scales zeros, little-endian hex")
for bits,f in ((2,quantize_matmul_2bits),(4,quantize_matmul_4bits),(8,quantize_matmul_8bits)):
  for block in (16,32):
    for sym in (1,0):
      for K in (32,40,75):
        N=7; kb=(K+block-1)//block; kp=8//bits
        w=np.pad(weights(K,N),((0,kb*block-K),(0,0)))
        p=np.zeros((N,kb,block//kp),np.uint8); z=np.zeros((N,(kb+kp-1)//kp),np.uint8); s=np.zeros((N,kb),np.float32)
        f(p,w,s,z,block,N,K,bool(sym))
        print(bits,block,sym,K,N,p.tobytes().hex(),s.tobytes().hex(),z.tobytes().hex() if not sym else "-")
