// SPDX-License-Identifier: MIT
/*
 * The message loop. It answers all that needs no model, and returns to Python for what does; the reply
 * functions answer that and serve on, so that an access costs Python one call.
 */
#include "engine.h"

#define PAYLOAD(e) ((e)->tx + sizeof(struct wire_header))

static int get_info(struct engine *e, const struct wire_header *h, uint32_t bytes)
{
	struct wire_device_info info = {
		.argsz = sizeof(info), .flags = WIRE_DEVICE_RESETTABLE | WIRE_DEVICE_PCI,
		.num_regions = WIRE_REGIONS, .num_irqs = WIRE_IRQS,
	};

	if (bytes < sizeof(info))
		return connection_reply_error(e, h, EINVAL);
	memcpy(PAYLOAD(e), &info, sizeof(info));
	return connection_reply(e, h, sizeof(info));
}

static int get_region_info(struct engine *e, const struct wire_header *h, const uint8_t *p, uint32_t bytes)
{
	struct wire_region_info info;

	if (bytes < sizeof(info))
		return connection_reply_error(e, h, EINVAL);
	memcpy(&info, p, sizeof(info));
	if (info.argsz < sizeof(info) || info.index >= WIRE_REGIONS)
		return connection_reply_error(e, h, EINVAL);
	info = (struct wire_region_info){
		.argsz = sizeof(info), .index = info.index, .size = e->region[info.index].size,
		.flags = e->region[info.index].size ? WIRE_REGION_READABLE | WIRE_REGION_WRITEABLE : 0,
	};
	memcpy(PAYLOAD(e), &info, sizeof(info));
	return connection_reply(e, h, sizeof(info));
}

static int get_irq_info(struct engine *e, const struct wire_header *h, const uint8_t *p, uint32_t bytes)
{
	struct wire_irq_info info;

	if (bytes < sizeof(info))
		return connection_reply_error(e, h, EINVAL);
	memcpy(&info, p, sizeof(info));
	if (info.argsz < sizeof(info) || info.index >= WIRE_IRQS)
		return connection_reply_error(e, h, EINVAL);
	/* NORESIZE is left out: with it QEMU takes down every vector to add one (facts in README). */
	info.argsz = sizeof(info);
	info.flags = WIRE_IRQ_EVENTFD;
	if (info.index == WIRE_IRQ_INTX)
		info.flags |= WIRE_IRQ_MASKABLE | WIRE_IRQ_AUTOMASKED;
	info.count = e->irq[info.index].count;
	memcpy(PAYLOAD(e), &info, sizeof(info));
	return connection_reply(e, h, sizeof(info));
}

static int map(struct engine *e, const uint8_t *p, uint32_t bytes, const int *fds, uint32_t fd_count)
{
	struct wire_dma_map m;
	struct dma_range range;
	int err = 0;

	if (bytes < sizeof(m))
		return -EINVAL;
	memcpy(&m, p, sizeof(m));
	if (m.argsz < sizeof(m) || (m.flags & ~(uint32_t)(DMA_READABLE | DMA_WRITEABLE)) || fd_count > 1)
		return -EINVAL;
	range = (struct dma_range){
		.iova = m.iova, .size = m.size, .offset = m.offset, .protection = m.flags,
	};
	if (fd_count)
		err = dma_file_get(&e->dma, fds[0], &range.file);
	if (err)
		return err;
	pthread_mutex_lock(&e->lock);
	err = dma_table_map(&e->dma, &range);
	if (!err)
		recording_put(e->rec, (struct event){
			.t_ns = now_ns(), .kind = KIND_DMA_MAP, .function = e->function,
			.flags = fd_count ? FLAG_HAS_FD : 0, .address = m.iova, .value = m.size,
			.extra = m.offset, .aux = m.flags,
		});
	pthread_mutex_unlock(&e->lock);
	dma_table_reap(&e->dma);
	return err;
}

static int unmap(struct engine *e, const struct wire_header *h, const uint8_t *p, uint32_t bytes)
{
	struct wire_dma_unmap m;
	int err = 0;

	if (bytes < sizeof(m))
		return connection_reply_error(e, h, EINVAL);
	memcpy(&m, p, sizeof(m));
	if (m.argsz < sizeof(m) || (m.flags & ~(uint32_t)WIRE_UNMAP_ALL))
		return connection_reply_error(e, h, EINVAL);
	if ((m.flags & WIRE_UNMAP_ALL) && (m.iova || m.size))
		return connection_reply_error(e, h, EINVAL);
	pthread_mutex_lock(&e->lock);
	if (m.flags & WIRE_UNMAP_ALL)
		dma_table_clear(&e->dma);
	else
		err = dma_table_unmap(&e->dma, m.iova, m.size);
	if (!err)
		recording_put(e->rec, (struct event){
			.t_ns = now_ns(), .kind = KIND_DMA_UNMAP, .function = e->function, .address = m.iova,
			.value = m.size, .aux = m.flags,
		});
	pthread_mutex_unlock(&e->lock);
	dma_table_reap(&e->dma);
	if (err)
		return connection_reply_error(e, h, err);
	memcpy(PAYLOAD(e), &m, sizeof(m));
	return connection_reply(e, h, sizeof(m));
}

static int reset(struct engine *e, const struct wire_header *h)
{
	e->pending.header = *h;
	e->pending.t_ns = now_ns();
	e->is_deciding = true;
	return SERVE_RESET;
}

/* Writes of a REGION_WRITE_MULTI from where it stopped: 0 replied, SERVE_ACCESS, or -errno. */
static int multi_continue(struct engine *e)
{
	struct pending_access *p = &e->pending;

	while (p->multi_left) {
		struct wire_access a;
		const uint8_t *data = p->multi + sizeof(a);
		int result;

		memcpy(&a, p->multi, sizeof(a));
		p->multi += sizeof(struct wire_multi_write);
		p->multi_left--;
		result = region_write(e, &a, data);
		if (result)
			return result;
	}
	p->multi = NULL;
	memcpy(PAYLOAD(e), &p->multi_count, sizeof(p->multi_count));
	return connection_reply(e, &p->header, sizeof(p->multi_count));
}

static int multi_write(struct engine *e, const struct wire_header *h, const uint8_t *p, uint32_t bytes)
{
	uint64_t count = 0;

	if (bytes >= sizeof(count))
		memcpy(&count, p, sizeof(count));
	if (!count || (bytes - sizeof(count)) / sizeof(struct wire_multi_write) < count)
		return connection_reply_error(e, h, EINVAL);
	p += sizeof(count);
	for (uint64_t i = 0; i < count; i++) {
		struct wire_access a;

		memcpy(&a, p + i * sizeof(struct wire_multi_write), sizeof(a));
		if (a.count > 8 || region_check(e, &a))
			return connection_reply_error(e, h, EINVAL);
	}
	e->pending = (struct pending_access){
		.header = *h, .multi = p, .multi_left = count, .multi_count = count,
	};
	return multi_continue(e);
}

static int version(struct engine *e, const struct wire_header *h, const uint8_t *p, uint32_t bytes)
{
	if (e->is_negotiated)
		return connection_reply_error(e, h, EINVAL);
	e->pending.header = *h;
	e->request = (struct request){ .size = bytes, .data = p };
	return SERVE_VERSION;
}

/* `pos` is behind the message already: fds that arrived with a byte of it are its own. */
static inline bool owns_fds(const struct engine *e)
{
	return unlikely(e->fd_count || e->is_fd_overflow) && e->fd_pos < e->pos;
}

static __attribute__((noinline)) int refuse(struct engine *e, const struct wire_header *h)
{
	if (owns_fds(e))
		connection_drop_fds(e);
	return connection_reply_error(e, h, EINVAL);
}

/* Everything but REGION_READ and REGION_WRITE. 0 served, SERVE_*, or -errno: the connection is lost. */
static __attribute__((noinline)) int command(struct engine *e, const struct wire_header *h)
{
	const uint8_t *p = (const uint8_t *)(h + 1);
	uint32_t bytes = h->size - (uint32_t)sizeof(*h), fd_count = 0;
	int fds[WIRE_FDS_MAX], result, err;

	if (unlikely((owns_fds(e) && e->is_fd_overflow) || (!e->is_negotiated && h->command != WIRE_VERSION)))
		return refuse(e, h);
	if (owns_fds(e)) {
		fd_count = e->fd_count;
		memcpy(fds, e->fds, sizeof(fds));
		e->fd_count = 0;
	}
	switch (h->command) {
	case WIRE_VERSION:
		result = version(e, h, p, bytes);
		break;
	case WIRE_DMA_MAP:
		err = map(e, p, bytes, fds, fd_count);
		result = err ? connection_reply_error(e, h, err) : connection_reply(e, h, 0);
		break;
	case WIRE_DMA_UNMAP:
		result = unmap(e, h, p, bytes);
		break;
	case WIRE_DEVICE_GET_INFO:
		result = get_info(e, h, bytes);
		break;
	case WIRE_DEVICE_GET_REGION_INFO:
		result = get_region_info(e, h, p, bytes);
		break;
	case WIRE_DEVICE_GET_IRQ_INFO:
		result = get_irq_info(e, h, p, bytes);
		break;
	case WIRE_DEVICE_SET_IRQS:
		err = interrupt_setup(e, p, bytes, fds, fd_count);
		result = err ? connection_reply_error(e, h, err) : connection_reply(e, h, 0);
		break;
	case WIRE_DEVICE_RESET:
		result = reset(e, h);
		break;
	case WIRE_REGION_WRITE_MULTI:
		result = multi_write(e, h, p, bytes);
		break;
	case WIRE_DEVICE_GET_REGION_IO_FDS:
	case WIRE_DEVICE_FEATURE:
	case WIRE_MIG_DATA_READ:
	case WIRE_MIG_DATA_WRITE:
		result = connection_reply_error(e, h, ENOTSUP);
		break;
	default:
		result = connection_reply_error(e, h, EINVAL);
	}
	for (uint32_t i = 0; i < fd_count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return result;
}

static inline int access_command(struct engine *e, const struct wire_header *h)
{
	const uint8_t *payload = (const uint8_t *)(h + 1), *data = payload + sizeof(struct wire_access);
	bool is_write = h->command == WIRE_REGION_WRITE;
	uint32_t head = sizeof(*h) + sizeof(struct wire_access);
	struct wire_access a;
	int result;

	if (unlikely(h->size < head || !e->is_negotiated || owns_fds(e)))
		return refuse(e, h);
	memcpy(&a, payload, sizeof(a));
	result = region_check(e, &a);
	if (unlikely(result || (is_write ? h->size - head != a.count : h->size != head))) {
		recording_put(e->rec, (struct event){
			.t_ns = now_ns(), .kind = is_write ? KIND_REGION_WRITE : KIND_REGION_READ,
			.function = e->function, .error = EINVAL, .size = a.count, .region = a.region,
			.address = a.offset,
		});
		return connection_reply_error(e, h, EINVAL);
	}
	result = is_write ? region_write(e, &a, data) : region_read(e, &a, PAYLOAD(e) + sizeof(a));
	if (unlikely(result)) {
		e->pending.header = *h;
		e->pending.multi = NULL;
		return result;
	}
	memcpy(PAYLOAD(e), &a, sizeof(a));
	return connection_reply(e, h, (uint32_t)sizeof(a) + (is_write ? 0 : a.count));
}

/* A file is kept mapped only for a client that unmaps and maps in turn. */
static __attribute__((noinline)) void release_idle(struct engine *e)
{
	pthread_mutex_lock(&e->lock);
	dma_table_release_idle(&e->dma);
	pthread_mutex_unlock(&e->lock);
	dma_table_reap(&e->dma);
}

int engine_serve(engine *e)
{
	for (;;) {
		uint32_t available = e->have - e->pos;
		const struct wire_header *h = (const struct wire_header *)(e->rx + e->pos);
		int result;

		if (unlikely(available >= sizeof(*h) &&
			     (h->size < sizeof(*h) || h->size > WIRE_MESSAGE_MAX ||
			      (h->flags & WIRE_TYPE_MASK) != WIRE_TYPE_COMMAND)))
			return -EPROTO;
		if (available < sizeof(*h) || available < h->size) {
			result = connection_receive(e);
			if (unlikely(result))
				return result == -ENODATA ? 0 : result;
			continue;
		}
		if (unlikely(e->dma.idle) && h->command != WIRE_DMA_MAP)
			release_idle(e);
		e->pos += h->size;
		if (likely(h->command == WIRE_REGION_READ || h->command == WIRE_REGION_WRITE))
			result = access_command(e, h);
		else
			result = command(e, h);
		if (unlikely(result))
			return result;
		if (likely(e->pos == e->have && !e->fd_count && !e->is_fd_overflow))
			e->pos = e->have = 0;
	}
}

/* ---- answers from Python ---- */

static int access_finished(struct engine *e)
{
	int result;

	if (e->pending.multi) {
		result = multi_continue(e);
	} else {
		memcpy(PAYLOAD(e), &e->pending.access, sizeof(e->pending.access));
		result = connection_reply(e, &e->pending.header, (uint32_t)sizeof(e->pending.access) +
					  (e->request.is_write ? 0 : e->pending.access.count));
	}
	return result ? result : engine_serve(e);
}

int engine_reply(engine *e, uint64_t value)
{
	if (e->request.is_write) {
		region_finish_write(e);
	} else {
		if (e->pending.access.count > sizeof(value))
			return -EINVAL;
		memcpy(PAYLOAD(e) + sizeof(struct wire_access), &value, sizeof(value));
		region_finish_read(e, load_bytes((const uint8_t *)&value, e->pending.access.count));
	}
	return access_finished(e);
}

int engine_reply_bytes(engine *e, const uint8_t *bytes, uint32_t size)
{
	int result;

	if (e->pending.header.command == WIRE_VERSION) {
		if (size > WIRE_MESSAGE_MAX - sizeof(struct wire_header))
			return -EMSGSIZE;
		e->is_negotiated = true;
		memcpy(PAYLOAD(e), bytes, size);
		result = connection_reply(e, &e->pending.header, size);
		return result ? result : engine_serve(e);
	}
	if (e->request.is_write || size != e->pending.access.count)
		return -EINVAL;
	memcpy(PAYLOAD(e) + sizeof(struct wire_access), bytes, size);
	region_finish_read(e, load_bytes(bytes, size));
	return access_finished(e);
}

int engine_reply_error(engine *e, int error)
{
	int result;

	if (e->pending.header.command != WIRE_VERSION && e->pending.header.command != WIRE_DEVICE_RESET)
		region_finish_error(e, error);
	e->pending.multi = NULL;
	e->is_deciding = false;
	e->resets_noted = 0;
	result = connection_reply_error(e, &e->pending.header, error);
	return result ? result : engine_serve(e);
}

int engine_reply_reset(engine *e)
{
	int result;

	recording_put(e->rec, (struct event){
		.t_ns = e->pending.t_ns, .kind = KIND_RESET, .function = e->function, .value = 1,
	});
	e->resets_noted = 0;
	e->is_deciding = false;
	region_record_updates(e, 0, 0);
	result = connection_reply(e, &e->pending.header, 0);
	return result ? result : engine_serve(e);
}
