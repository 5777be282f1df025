/* SPDX-License-Identifier: MIT */
/*
 * The recording's layout (pydev/recording/format.py) and the claim of a slot, inline because every message
 * and every DMA transaction goes through it.
 */
#ifndef LUSCOPE_RECORDING_H
#define LUSCOPE_RECORDING_H

#include <stdatomic.h>
#include <stddef.h>

#include "core.h"
#include "os.h"

#define RECORDING_MAGIC "LUSCOPE\n"
#define RECORDING_VERSION 1
#define RECORD_BYTES 64
#define PAGE_BYTES 4096
#define NO_FUNCTION 0xffff
/*
 * A claim leaves this many slots free below the limit, so that writers which all saw the same head cannot
 * together pass it: no slot is ever claimed that has no file space, and none is left unwritten.
 */
#define CLAIM_MARGIN 1024
#define CONTINUATION_OFFSET 24
#define CONTINUATION_BYTES (RECORD_BYTES - CONTINUATION_OFFSET)

enum kind {
	KIND_REGION_READ = 1,
	KIND_REGION_WRITE = 2,
	KIND_CONFIG_UPDATE = 3,
	KIND_DMA_WRITE = 4,
	KIND_DMA_READ = 5,
	KIND_INTERRUPT = 6,
	KIND_IRQ_SETUP = 7,
	KIND_DMA_MAP = 8,
	KIND_DMA_UNMAP = 9,
	KIND_RESET = 10,
	KIND_CLIENT = 11,
	KIND_GATE = 12,
	KIND_ENGINE = 13,
	KIND_ENGINE_PAGE = 14,
	KIND_REFERENCE = 15,
	KIND_PLUGIN_WRITE = 20,
	KIND_PLUGIN_JUMP = 21,
	KIND_PLUGIN_END = 22,
	KIND_CONTINUATION = 255,
};

enum flag {
	FLAG_BLOCKED = 1,
	FLAG_STREAM = 2,
	FLAG_PENDING = 4,
	FLAG_TRAPPED = 8,
	FLAG_HAS_FD = 16,
	FLAG_FAULT = 64,
};

struct record {
	_Atomic uint64_t seq;
	struct event event;
};
_Static_assert(sizeof(struct record) == RECORD_BYTES, "a record is one cache line");
_Static_assert(offsetof(struct record, event.size) == CONTINUATION_OFFSET, "CONTINUATION's payload");

struct prologue {
	char magic[8];
	uint32_t version;
	uint32_t record_bytes;
	uint64_t header_offset;
	uint64_t header_bytes;
	uint64_t records_offset;
	uint64_t capacity;
	uint64_t trailer_offset;
	uint64_t trailer_bytes;
	uint32_t header_crc32;
	uint32_t trailer_crc32;
	_Alignas(64) _Atomic uint64_t head;
	_Alignas(64) _Atomic uint64_t limit;
	_Alignas(64) _Atomic uint64_t dropped;
};
_Static_assert(offsetof(struct prologue, trailer_crc32) == 68, "PROLOGUE");
_Static_assert(offsetof(struct prologue, head) == 128, "PROLOGUE");
_Static_assert(offsetof(struct prologue, limit) == 192, "PROLOGUE");
_Static_assert(offsetof(struct prologue, dropped) == 256, "PROLOGUE");

struct recording {
	struct prologue *prologue;
	struct record *records;
	uint64_t bytes;			/* of the mapping: room for capacity, though the file is shorter */
	uint64_t extent;		/* slots */
	uint64_t prefaulted;		/* slots that this process has touched */
	int fd;				/* owned; -1 in an attached writer */
};

/*
 * As recording_attach, for a writer of little: nothing is prefaulted, so that its first touch of a page is a
 * minor fault. It claims reserved slots only, so that no touch fails.
 */
int recording_map(const char *path, recording **out);

/* Returns the first of `count` adjoining slots, or UINT64_MAX: counted as `events` dropped. */
static inline uint64_t recording_claim(struct recording *rec, uint64_t count, uint64_t events)
{
	struct prologue *p = rec->prologue;
	uint64_t head = atomic_load_explicit(&p->head, memory_order_relaxed);
	uint64_t limit = atomic_load_explicit(&p->limit, memory_order_acquire);

	if (unlikely(head + count + CLAIM_MARGIN > limit)) {
		atomic_fetch_add_explicit(&p->dropped, events, memory_order_relaxed);
		return UINT64_MAX;
	}
	return atomic_fetch_add_explicit(&p->head, count, memory_order_relaxed);
}

/* `event` is built in registers by the caller and stored once; seq is stored last. */
static inline __attribute__((always_inline)) int recording_put(struct recording *rec, struct event event)
{
	struct record *r;
	uint64_t slot;

	if (unlikely(!rec))
		return 0;
	slot = recording_claim(rec, 1, 1);
	if (unlikely(slot == UINT64_MAX))
		return -ENOSPC;
	r = &rec->records[slot];
	r->event = event;
	atomic_store_explicit(&r->seq, slot + 1, memory_order_release);
	return 0;
}

#endif
