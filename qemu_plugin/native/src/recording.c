// SPDX-License-Identifier: MIT
/* Creates, extends, attaches and closes the recording's file. Layout: recording.h. */
#include "recording.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23	/* linux 5.14 include/uapi/asm-generic/mman-common.h */
#endif

static uint64_t page_up(uint64_t bytes)
{
	return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static struct recording *recording_wrap(void *mapping, uint64_t bytes, uint64_t records_offset)
{
	struct recording *rec = calloc(1, sizeof(*rec));

	if (!rec)
		return NULL;
	rec->prologue = mapping;
	rec->records = (struct record *)((uint8_t *)mapping + records_offset);
	rec->bytes = bytes;
	rec->fd = -1;
	return rec;
}

static int write_all(int fd, const void *data, uint64_t bytes, uint64_t offset)
{
	const uint8_t *p = data;

	while (bytes) {
		ssize_t n = pwrite(fd, p, bytes, (off_t)offset);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			p += n;
			offset += (uint64_t)n;
			bytes -= (uint64_t)n;
		}
	}
	return 0;
}

/* File systems without fallocate get zeroes written: slower, the same promise. */
static int reserve_bytes(int fd, uint64_t offset, uint64_t bytes)
{
	static const uint8_t zeroes[1 << 16];
	int err;

	if (!fallocate(fd, 0, (off_t)offset, (off_t)bytes))
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	for (uint64_t done = 0; done < bytes; done += sizeof(zeroes)) {
		uint64_t n = bytes - done < sizeof(zeroes) ? bytes - done : sizeof(zeroes);

		err = write_all(fd, zeroes, n, offset + done);
		if (err)
			return err;
	}
	return 0;
}

int recording_create(const char *path, const uint8_t *header, uint64_t header_bytes, uint32_t header_crc32,
		     uint64_t capacity, uint64_t extent, recording **out)
{
	uint64_t records_offset = PAGE_BYTES + page_up(header_bytes);
	uint64_t bytes = records_offset + page_up(capacity * RECORD_BYTES);
	struct prologue first = {
		.magic = RECORDING_MAGIC, .version = RECORDING_VERSION, .record_bytes = RECORD_BYTES,
		.header_offset = PAGE_BYTES, .header_bytes = header_bytes, .records_offset = records_offset,
		.capacity = capacity, .header_crc32 = header_crc32,
	};
	struct recording *rec;
	void *mapping;
	int fd, err;

	if (!capacity || !extent || capacity > UINT64_MAX / RECORD_BYTES / 4)
		return -EINVAL;
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	err = reserve_bytes(fd, 0, records_offset);
	if (!err)
		err = write_all(fd, &first, sizeof(first), 0);
	if (!err)
		err = write_all(fd, header, header_bytes, PAGE_BYTES);
	if (err)
		goto fail;
	/* Longer than the file on purpose: nothing is touched beyond `limit`, which follows fallocate. */
	mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapping == MAP_FAILED) {
		err = -errno;
		goto fail;
	}
	rec = recording_wrap(mapping, bytes, records_offset);
	if (!rec) {
		munmap(mapping, bytes);
		err = -ENOMEM;
		goto fail;
	}
	rec->fd = fd;
	rec->extent = extent;
	err = recording_reserve(rec);
	if (err) {
		recording_destroy(rec);
		return err;
	}
	*out = rec;
	return 0;
fail:
	close(fd);
	return err;
}

int recording_map(const char *path, recording **out)
{
	struct prologue first;
	void *mapping;
	uint64_t bytes;
	int fd = open(path, O_RDWR | O_CLOEXEC), err = -EINVAL;

	if (fd < 0)
		return -errno;
	if (pread(fd, &first, sizeof(first), 0) != (ssize_t)sizeof(first))
		goto out;
	if (memcmp(first.magic, RECORDING_MAGIC, sizeof(first.magic)) || first.version != RECORDING_VERSION ||
	    first.record_bytes != RECORD_BYTES || first.trailer_offset)
		goto out;
	bytes = first.records_offset + page_up(first.capacity * RECORD_BYTES);
	mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapping == MAP_FAILED) {
		err = -errno;
		goto out;
	}
	*out = recording_wrap(mapping, bytes, first.records_offset);
	err = *out ? 0 : -ENOMEM;
	if (err)
		munmap(mapping, bytes);
out:
	close(fd);
	return err;
}

int recording_attach(const char *path, recording **out)
{
	int err = recording_map(path, out);

	return err ? err : recording_prefault(*out);
}

void recording_destroy(recording *rec)
{
	munmap(rec->prologue, rec->bytes);
	if (rec->fd >= 0)
		close(rec->fd);
	free(rec);
}

static uint64_t slot_offset(const struct recording *rec, uint64_t slot)
{
	return rec->prologue->records_offset + slot * RECORD_BYTES;
}

/* Touches [from, to) so that no writer of this process takes a first-touch fault. */
static int populate(struct recording *rec, uint64_t from, uint64_t to)
{
	uint64_t first = slot_offset(rec, from) / PAGE_BYTES * PAGE_BYTES;
	uint64_t last = page_up(slot_offset(rec, to));

	/* Kernels before 5.14 say EINVAL: the pages are then faulted in as they are written. */
	if (last > first && madvise((uint8_t *)rec->prologue + first, last - first, MADV_POPULATE_WRITE) &&
	    errno != EINVAL)
		return -errno;
	return 0;
}

int recording_reserve(recording *rec)
{
	struct prologue *p = rec->prologue;
	uint64_t limit = atomic_load(&p->limit), head = atomic_load(&p->head), next;
	int err;

	if (rec->fd < 0)
		return -EPERM;
	while (limit < p->capacity && limit < head + rec->extent + CLAIM_MARGIN) {
		next = limit + rec->extent < p->capacity ? limit + rec->extent : p->capacity;
		err = reserve_bytes(rec->fd, slot_offset(rec, limit), (next - limit) * RECORD_BYTES);
		if (!err)
			err = populate(rec, limit, next);
		if (err)
			return err;
		rec->prefaulted = next;
		atomic_store_explicit(&p->limit, next, memory_order_release);
		limit = next;
	}
	return 0;
}

int recording_prefault(recording *rec)
{
	uint64_t limit = atomic_load_explicit(&rec->prologue->limit, memory_order_acquire);
	uint64_t from = atomic_load(&rec->prologue->head);
	int err = 0;

	if (from < rec->prefaulted)
		from = rec->prefaulted;
	if (from < limit)
		err = populate(rec, from, limit);
	if (!err && limit > rec->prefaulted)
		rec->prefaulted = limit;
	return err;
}

int recording_append(recording *rec, const struct event *event)
{
	struct event e = *event;

	if (!e.t_ns)
		e.t_ns = now_ns();
	return recording_put(rec, e);
}

int recording_append_text(recording *rec, const struct event *event, const uint8_t *text, uint32_t size)
{
	uint64_t chain = ((uint64_t)size + CONTINUATION_BYTES - 1) / CONTINUATION_BYTES;
	uint64_t slot = recording_claim(rec, 1 + chain, 1);
	struct event head = *event, more = { .kind = KIND_CONTINUATION, .function = event->function };
	struct record *r;

	if (slot == UINT64_MAX)
		return -ENOSPC;
	if (!head.t_ns)
		head.t_ns = now_ns();
	head.size = size;
	more.t_ns = head.t_ns;
	for (uint64_t i = 0; i < chain; i++) {
		uint64_t done = i * CONTINUATION_BYTES;
		uint64_t n = size - done < CONTINUATION_BYTES ? size - done : CONTINUATION_BYTES;

		r = &rec->records[slot + 1 + i];
		r->event = more;
		memcpy((uint8_t *)r + CONTINUATION_OFFSET, text + done, n);
		atomic_store_explicit(&r->seq, slot + 2 + i, memory_order_release);
	}
	/* Published last: a reader that sees the line sees the whole of it. */
	r = &rec->records[slot];
	r->event = head;
	atomic_store_explicit(&r->seq, slot + 1, memory_order_release);
	return 0;
}

int recording_append_batch(recording *rec, const void *records, uint64_t count)
{
	const struct record *from = records;
	uint64_t slot;

	if (!count)
		return 0;
	slot = recording_claim(rec, count, count);
	if (slot == UINT64_MAX)
		return -ENOSPC;
	for (uint64_t i = 0; i < count; i++) {
		rec->records[slot + i].event = from[i].event;
		atomic_store_explicit(&rec->records[slot + i].seq, slot + i + 1, memory_order_release);
	}
	return 0;
}

uint64_t recording_head(const recording *rec)
{
	return atomic_load(&rec->prologue->head);
}

uint64_t recording_limit(const recording *rec)
{
	return atomic_load(&rec->prologue->limit);
}

uint64_t recording_dropped(const recording *rec)
{
	return atomic_load(&rec->prologue->dropped);
}

uint64_t recording_seal(recording *rec)
{
	uint64_t head;

	/* From limit 0 on every claim is refused; a claim under way has been counted in head by then. */
	atomic_store(&rec->prologue->limit, 0);
	head = atomic_load(&rec->prologue->head);
	atomic_store(&rec->prologue->limit, head);
	return head;
}

uint64_t recording_holes(const recording *rec)
{
	uint64_t head = recording_head(rec), holes = 0;

	for (uint64_t i = 0; i < head; i++)
		holes += atomic_load_explicit(&rec->records[i].seq, memory_order_acquire) != i + 1;
	return holes;
}

const uint8_t *recording_records(const recording *rec)
{
	return (const uint8_t *)rec->records;
}

int recording_finish(recording *rec, const uint8_t *trailer, uint64_t trailer_bytes, uint32_t trailer_crc32)
{
	struct prologue *p = rec->prologue;
	uint64_t offset = slot_offset(rec, recording_head(rec));
	int err;

	if (rec->fd < 0)
		return -EPERM;
	err = write_all(rec->fd, trailer, trailer_bytes, offset);
	if (err)
		return err;
	p->trailer_bytes = trailer_bytes;
	p->trailer_crc32 = trailer_crc32;
	/* Last: the trailer's offset is what says that there is one. */
	__atomic_store_n(&p->trailer_offset, offset, __ATOMIC_RELEASE);
	return ftruncate(rec->fd, (off_t)(offset + trailer_bytes)) ? -errno : 0;
}

uint64_t recording_bench(recording *rec, uint64_t count, int with_clock)
{
	uint64_t began = now_ns();

	for (uint64_t i = 0; i < count; i++) {
		recording_put(rec, (struct event){
			.t_ns = with_clock ? now_ns() : began, .kind = KIND_REGION_READ, .size = 4, .region = 7,
			.address = i & 255, .value = i,
		});
		__asm__ volatile("" ::: "memory");
	}
	return now_ns() - began;
}
