/* As much of libcuda.so.1 as scrub.py calls, over plain memory: shows that its calls arrive as the
   driver's signatures say. A card of STUB_MIB MiB. */

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1024 * 1024)
#define STUB_MIB ((size_t)46)

typedef int CUresult;
typedef int CUdevice;
typedef void *CUcontext;
typedef unsigned long long CUdeviceptr;
typedef struct { char bytes[16]; } CUuuid;

static size_t used;
static int context;
static CUcontext current;

CUresult cuInit(unsigned int flags) { return flags == 0 ? 0 : 1; }

CUresult cuGetErrorName(CUresult error, const char **name) {
    *name = error == 1 ? "CUDA_ERROR_INVALID_VALUE" : "CUDA_ERROR_STUB";
    return 0;
}

CUresult cuDeviceGetCount(int *count) {
    *count = 2;
    return 0;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    *device = ordinal + 40; /* a handle is no ordinal */
    return ordinal < 2 ? 0 : 101;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
    memset(uuid->bytes, device == 41 ? 0xab : 0x11, 16);
    return device == 40 || device == 41 ? 0 : 101;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *made, CUdevice device) {
    *made = &context;
    return device == 41 ? 0 : 101;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) { return device == 41 ? 0 : 101; }

CUresult cuCtxSetCurrent(CUcontext chosen) {
    current = chosen;
    return chosen == &context ? 0 : 201;
}

CUresult cuCtxSynchronize(void) { return current == &context ? 0 : 201; }

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    *total = STUB_MIB * MIB;
    *free_bytes = STUB_MIB * MIB - used;
    return 0;
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size) {
    if (used + size > STUB_MIB * MIB)
        return 2;
    void *memory = malloc(size);
    if (memory == NULL)
        return 2;
    memset(memory, 7, size); /* what the last tenant left */
    used += size;
    *address = (CUdeviceptr)memory;
    return 0;
}

CUresult cuMemFree_v2(CUdeviceptr address) {
    free((void *)address);
    return 0;
}

CUresult cuMemsetD8_v2(CUdeviceptr address, unsigned char value, size_t count) {
    memset((void *)address, value, count);
    return 0;
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr address, size_t count) {
    memcpy(to, (void *)address, count);
    return 0;
}
