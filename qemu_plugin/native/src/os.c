// SPDX-License-Identifier: MIT
/* Waiting with an absolute deadline that another thread can cut short; scheduling of the bench's threads. */
#include "os.h"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

#include "core.h"

void os_wait_until(uint32_t *word, uint32_t expected, uint64_t deadline_ns)
{
	struct timespec deadline = {
		.tv_sec = (time_t)(deadline_ns / 1000000000ull),
		.tv_nsec = (long)(deadline_ns % 1000000000ull),
	};

	/* WAIT_BITSET takes an absolute time, of CLOCK_MONOTONIC: futex(2). */
	os_call(SYS_futex, (long)word, FUTEX_WAIT_BITSET_PRIVATE, expected, (long)&deadline, 0,
		(long)FUTEX_BITSET_MATCH_ANY);
}

void os_wake(uint32_t *word)
{
	os_call(SYS_futex, (long)word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

uint64_t now_monotonic_ns(void)
{
	return now_ns();
}

int thread_prefer_realtime(void)
{
	struct sched_param lowest = { .sched_priority = 1 };

	/* SCHED_RESET_ON_FORK: nothing that this process starts is to inherit it. */
	if (!sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &lowest))
		return 0;
	prctl(PR_SET_TIMERSLACK, 1ul, 0, 0, 0);
	return -EPERM;
}

int thread_prefer_batch(void)
{
	struct sched_param none = { .sched_priority = 0 };

	return sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &none) ? -errno : 0;
}

int process_die_with_parent(void)
{
	return prctl(PR_SET_PDEATHSIG, SIGKILL) ? -errno : 0;
}
