/* SPDX-License-Identifier: MIT */
/* System calls without libc's cancellation points, the clock, and loads of odd widths. */
#ifndef LUSCOPE_OS_H
#define LUSCOPE_OS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the wire and the recording are little-endian, and are accessed in place"
#endif

/* Returns what the kernel returns: a result or -errno. */
static inline long os_call(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall" : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
#else
	long result = syscall(number, a, b, c, d, e, f);

	return result < 0 ? -errno : result;
#endif
}

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static inline uint64_t load_bytes(const uint8_t *p, uint32_t size)
{
	uint64_t v64 = 0;
	uint32_t v32;
	uint16_t v16;

	switch (size) {
	case 4:
		memcpy(&v32, p, 4);
		return v32;
	case 2:
		memcpy(&v16, p, 2);
		return v16;
	case 1:
		return *p;
	default:
		memcpy(&v64, p, size < 8 ? size : 8);
		return v64;
	}
}

/* Sleeps until an absolute CLOCK_MONOTONIC time or until *word is no longer `expected` and is woken. */
void os_wait_until(uint32_t *word, uint32_t expected, uint64_t deadline_ns);
void os_wake(uint32_t *word);

#endif
