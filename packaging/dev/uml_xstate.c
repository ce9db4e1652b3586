/*
 * Lets user-mode Linux run on processors whose register file is larger than it knows.
 *
 * User-mode Linux (6.1, 6.12) keeps a guest process's extended registers in a fixed
 * buffer of 2696 bytes (up to AVX-512 and PKRU) and writes them back with
 * PTRACE_SETREGSET. The host accepts only a whole register file there; with AMX that is
 * 11008 bytes, so every guest ends at once: "ptrace set fp regs failed, errno = 14".
 *
 * Preloaded, this file hands the host a whole register file: what user-mode Linux wrote,
 * zeroes behind it, and the AMX components marked as "in their initial state". A guest
 * process can not have used AMX: the guest's kernel never grants it.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	PEEK_FIRST = 1, PEEK_LAST = 3,	/* the kernel returns these three words by address */
	SETREGSET = 0x4205,
	NT_X86_XSTATE = 0x202,
	XSTATE_BV_OFFSET = 512,
};

#define AMX_COMPONENTS (UINT64_C(3) << 17)

/* User-mode Linux calls ptrace from one thread only; the host takes what it needs of this. */
static unsigned char whole[65536] __attribute__((aligned(64)));

static void *widened(struct iovec *given, struct iovec *wide)
{
	uint64_t components;

	if (given->iov_len > sizeof whole || given->iov_len < XSTATE_BV_OFFSET + sizeof components)
		return given;
	memcpy(whole, given->iov_base, given->iov_len);
	memcpy(&components, whole + XSTATE_BV_OFFSET, sizeof components);
	components &= ~AMX_COMPONENTS;
	memcpy(whole + XSTATE_BV_OFFSET, &components, sizeof components);
	wide->iov_base = whole;
	wide->iov_len = sizeof whole;
	return wide;
}

long ptrace(long request, ...)
{
	struct iovec wide;
	va_list arguments;
	long pid, address, word;
	void *data;

	va_start(arguments, request);
	pid = va_arg(arguments, long);
	address = va_arg(arguments, long);
	data = va_arg(arguments, void *);
	va_end(arguments);

	if (request >= PEEK_FIRST && request <= PEEK_LAST)
		return syscall(SYS_ptrace, request, pid, address, &word) < 0 ? -1 : word;
	if (request == SETREGSET && address == NT_X86_XSTATE)
		data = widened(data, &wide);
	return syscall(SYS_ptrace, request, pid, address, data);
}
