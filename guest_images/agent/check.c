// SPDX-License-Identifier: GPL-2.0-only
/*
 * Judges what a stopped stream left in its ring. A slot is eight little-endian words: w0 device time,
 * w1 generation and engine, w2 slot index, w3 address of the slot, w4 sequence * GOLDEN, w5 ~sequence,
 * w6 w0 ^ w1 ^ w2 ^ w3 ^ w4 ^ w5, w7 sequence, which counts from 1; never written is all zero.
 */
#include <errno.h>
#include <string.h>

#include "agent.h"

#define WORDS		8
#define SLOT_BYTES	64
#define PAGE_SLOTS	(PAGE_BYTES / SLOT_BYTES)
#define GOLDEN		0x9e3779b97f4a7c15ull
#define MAX_BAD		16

/* NULL if the slot is sound, else what is wrong with it; *sequence is 0 for one never written. */
static const char *judge_slot(const struct ring *ring, unsigned int slot, uint64_t *sequence)
{
	const uint64_t *w = (const uint64_t *)(ring->memory + (size_t)slot * SLOT_BYTES);
	uint64_t iova = ring->frames[slot / PAGE_SLOTS] * PAGE_BYTES + slot % PAGE_SLOTS * SLOT_BYTES;

	*sequence = w[7];
	if (!(w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7]))
		return NULL;
	if (!w[7])
		return "no sequence";
	if (w[6] != (w[0] ^ w[1] ^ w[2] ^ w[3] ^ w[4] ^ w[5]))
		return "checksum";
	if (w[4] != w[7] * GOLDEN || w[5] != ~w[7])
		return "sequence";
	if (w[2] != slot || (w[7] - 1) % (ring->pages * PAGE_SLOTS) != slot)
		return "slot";
	if (w[3] != iova)
		return "address";
	return NULL;
}

/* A run of slots whose sequences rise by one, or of slots never written. */
struct run {
	unsigned int first_slot, count;
	uint64_t first_sequence;
	bool is_first;
};

static void put_run(struct run *run)
{
	if (!run->count)
		return;
	put_text("%s[%u,%u,%llu]", run->is_first ? "" : ",", run->first_slot, run->count,
		 (unsigned long long)run->first_sequence);
	run->is_first = false;
	run->count = 0;
}

static void extend_run(struct run *run, unsigned int slot, uint64_t sequence)
{
	uint64_t next = run->first_sequence ? run->first_sequence + run->count : 0;

	if (run->count && sequence != next)
		put_run(run);
	if (!run->count++) {
		run->first_slot = slot;
		run->first_sequence = sequence;
	}
}

static void put_slots(const struct ring *ring)
{
	struct run run = { .is_first = true };
	uint64_t sequence;

	put_key("slots");
	put_text("[");
	for (unsigned int slot = 0; slot < ring->pages * PAGE_SLOTS; slot++) {
		if (judge_slot(ring, slot, &sequence))
			put_run(&run);
		else
			extend_run(&run, slot, sequence);
	}
	put_run(&run);
	put_text("]");
}

static void put_bad_slots(const struct ring *ring)
{
	unsigned int bad_count = 0;
	uint64_t sequence;

	put_key("bad");
	put_text("[");
	for (unsigned int slot = 0; slot < ring->pages * PAGE_SLOTS; slot++) {
		const char *why = judge_slot(ring, slot, &sequence);

		if (why && bad_count++ < MAX_BAD)
			put_text("%s[%u,\"%s\"]", bad_count > 1 ? "," : "", slot, why);
	}
	put_text("]");
	put_u64("bad_count", bad_count);
}

static void put_page_crcs(const struct ring *ring)
{
	put_key("page_crc32");
	put_text("[");
	for (unsigned int page = 0; page < ring->pages; page++)
		put_text("%s\"%08x\"", page ? "," : "",
			 crc32_update(0, ring->memory + (size_t)page * PAGE_BYTES, PAGE_BYTES));
	put_text("]");
}

/* Where the function is absent or its memory space off nobody can say that the stream stands still. */
int cmd_check(const struct json_object *request)
{
	struct endpoint *endpoint;
	const char *bdf;
	int error = want_string(request, "bdf", &bdf);

	if (!error)
		error = endpoint_with_ring(bdf, &endpoint);
	if (error)
		return error;
	if (pci_exists(bdf) && stream_is_running(endpoint))
		return fail(EBUSY, "%s is streaming: stop it first", bdf);
	reply_begin();
	put_string("report", "check");
	if (endpoint->ring.is_driver)
		put_bool("driver", true);
	put_string("bdf", bdf);
	put_slots(&endpoint->ring);
	put_bad_slots(&endpoint->ring);
	put_page_crcs(&endpoint->ring);
	return 0;
}
