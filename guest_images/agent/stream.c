// SPDX-License-Identifier: GPL-2.0-only
/*
 * The stream endpoint's registers: page table, start, claim, stop, counters. Where the kernel has a
 * driver for the endpoint it is asked instead (driver.c), and nothing is written past it.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "stream_regs.h"

_Static_assert(MAX_RING_PAGES == STREAM_PAGE_TABLE_COUNT, "a ring fills the page table at most");

#define MASTERING	(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)
#define STOP_NS		2000000000ull

static uint32_t read32(const struct endpoint *endpoint, unsigned int offset)
{
	return *(volatile uint32_t *)(endpoint->bar0 + offset);
}

static void write32(const struct endpoint *endpoint, unsigned int offset, uint32_t value)
{
	*(volatile uint32_t *)(endpoint->bar0 + offset) = value;
}

static uint64_t read64(const struct endpoint *endpoint, unsigned int offset)
{
	return *(volatile uint64_t *)(endpoint->bar0 + offset);
}

static void write64(const struct endpoint *endpoint, unsigned int offset, uint64_t value)
{
	*(volatile uint64_t *)(endpoint->bar0 + offset) = value;
}

/* Maps BAR0 once and makes sure that a stream endpoint answers there. */
int endpoint_map(struct endpoint *endpoint)
{
	uint32_t command, id;
	int error = pci_config_read(endpoint->bdf, PCI_COMMAND, 2, &command);

	if (error)
		return error;
	if (!(command & PCI_COMMAND_MEMORY))
		return fail(ENXIO, "the memory space of %s is off", endpoint->bdf);
	if (!endpoint->bar0) {
		error = pci_map_bar(endpoint->bdf, 0, &endpoint->bar0, &endpoint->bar0_bytes);
		if (error)
			return error;
	}
	id = endpoint->bar0_bytes < STREAM_SIZE_BYTES ? 0 : read32(endpoint, STREAM_ID);
	if (id != STREAM_ID_VALUE)
		return fail(ENODEV, "%s is no stream endpoint: BAR0 of %zu bytes, id %08x", endpoint->bdf,
			    endpoint->bar0_bytes, id);
	return 0;
}

/* Reads back the addresses the device holds. */
int stream_page_table(struct endpoint *endpoint, uint64_t *iovas, unsigned int count)
{
	int error = pci_exists(endpoint->bdf) ? endpoint_map(endpoint) :
						fail(ENODEV, "there is no %s", endpoint->bdf);

	for (unsigned int i = 0; !error && i < count; i++)
		iovas[i] = read64(endpoint, STREAM_PAGE_TABLE(i));
	return error;
}

static void write_program(const struct endpoint *endpoint)
{
	const struct ring *ring = &endpoint->ring;

	for (unsigned int i = 0; i < ring->pages; i++)
		write64(endpoint, STREAM_PAGE_TABLE(i), ring->frames[i] * PAGE_BYTES);
	write32(endpoint, STREAM_PAGE_COUNT, ring->pages);
	write64(endpoint, STREAM_MAILBOX, ring->frames[ring->pages] * PAGE_BYTES);
}

/* COMMAND as found, then with the bits that were missing; nothing is written where none was. */
static int become_master(const char *bdf, uint32_t *before, uint32_t *after)
{
	uint32_t command;
	int error = pci_config_read(bdf, PCI_COMMAND, 2, before);

	if (!error)
		error = pci_enable(bdf);
	if (!error)
		error = pci_config_read(bdf, PCI_COMMAND, 2, &command);
	if (!error && (command & MASTERING) != MASTERING)
		error = pci_config_write(bdf, PCI_COMMAND, 2, command | MASTERING);
	if (!error)
		error = pci_config_read(bdf, PCI_COMMAND, 2, after);
	return error;
}

static int want_settings(const struct json_object *request, struct stream_settings *settings)
{
	int error = want_u64_or(request, "period_ns", 100000, &settings->period_ns);

	if (!error)
		error = want_u64_or(request, "interrupt_every", 64, &settings->interrupt_every);
	if (!error)
		error = want_u64_or(request, "vector", 0, &settings->vector);
	if (!error)
		error = want_u64_or(request, "generation", 0, &settings->generation);
	if (!error)
		error = want_u64_or(request, "interrupt_enable", 0, &settings->interrupt_enable);
	if (!error && (settings->period_ns | settings->interrupt_every | settings->vector |
		       settings->generation) >> 32)
		return fail(EINVAL, "a stream setting is beyond 32 bits");
	return error;
}

static int start_stream(const struct endpoint *endpoint, const struct stream_settings *settings)
{
	uint32_t control = STREAM_CONTROL_RUN;

	if (read32(endpoint, STREAM_STATUS) & STREAM_STATUS_RUNNING)
		return fail(EBUSY, "%s streams already", endpoint->bdf);
	if (settings->interrupt_enable)
		control |= STREAM_CONTROL_INTERRUPT_ENABLE;
	write_program(endpoint);
	write32(endpoint, STREAM_PERIOD_NS, settings->period_ns);
	write32(endpoint, STREAM_INTERRUPT_EVERY, settings->interrupt_every);
	write32(endpoint, STREAM_VECTOR, settings->vector);
	write32(endpoint, STREAM_GENERATION, settings->generation);
	write32(endpoint, STREAM_CONTROL, control);
	if (read32(endpoint, STREAM_STATUS) & STREAM_STATUS_ERROR)
		return fail(EIO, "%s refused the program", endpoint->bdf);
	return 0;
}

static int start_by_driver(struct endpoint *endpoint, const struct stream_settings *settings)
{
	uint32_t before, after;
	int error = pci_config_read(endpoint->bdf, PCI_COMMAND, 2, &before);

	if (!error)
		error = driver_start(&endpoint->ring, settings);
	if (!error)
		error = pci_config_read(endpoint->bdf, PCI_COMMAND, 2, &after);
	if (error)
		return error;
	reply_begin();
	put_bool("driver", true);
	put_u64("command_before", before);
	put_u64("command_after", after);
	return 0;
}

int cmd_stream(const struct json_object *request)
{
	struct stream_settings settings;
	struct endpoint *endpoint;
	uint32_t before, after;
	const char *bdf;
	int error = want_string(request, "bdf", &bdf);

	if (!error)
		error = want_settings(request, &settings);
	if (!error)
		error = endpoint_with_ring(bdf, &endpoint);
	if (!error && endpoint->ring.is_driver)
		return start_by_driver(endpoint, &settings);
	if (!error)
		error = become_master(bdf, &before, &after);
	if (!error)
		error = endpoint_map(endpoint);
	if (!error)
		error = start_stream(endpoint, &settings);
	if (error)
		return error;
	reply_begin();
	put_u64("command_before", before);
	put_u64("command_after", after);
	return 0;
}

/* A driver has claimed its device when it retrieved it; then this only looks. */
int cmd_claim(const struct json_object *request)
{
	uint32_t before, after;
	bool has_driver = false;
	const char *bdf;
	int error = want_string(request, "bdf", &bdf);

	if (!error)
		error = check_bdf(bdf);
	if (!error)
		has_driver = driver_has(bdf);
	if (!error && has_driver) {
		error = pci_config_read(bdf, PCI_COMMAND, 2, &before);
		after = before;
	} else if (!error) {
		error = become_master(bdf, &before, &after);
	}
	if (error)
		return error;
	reply_begin();
	if (has_driver)
		put_bool("driver", true);
	put_u64("command_before", before);
	put_u64("command_after", after);
	return 0;
}

static int want_endpoint(const struct json_object *request, struct endpoint **endpoint)
{
	const char *bdf;
	int error = want_string(request, "bdf", &bdf);

	return error ? error : endpoint_get(bdf, endpoint);
}

static void put_counters(const struct endpoint *endpoint)
{
	put_u64("sequence", read64(endpoint, STREAM_SEQUENCE));
	put_u64("written", read64(endpoint, STREAM_WRITTEN));
	put_u64("blocked", read64(endpoint, STREAM_BLOCKED));
	put_u64("interrupts", read64(endpoint, STREAM_INTERRUPTS));
	put_u64("mailbox_value", read64(endpoint, STREAM_MAILBOX_VALUE));
}

int cmd_status(const struct json_object *request)
{
	struct endpoint *endpoint;
	int error = want_endpoint(request, &endpoint);

	if (!error && driver_has(endpoint->bdf))
		return driver_put_status(endpoint, true);
	if (!error)
		error = endpoint_map(endpoint);
	if (error)
		return error;
	reply_begin();
	put_bool("running", read32(endpoint, STREAM_STATUS) & STREAM_STATUS_RUNNING);
	put_counters(endpoint);
	return 0;
}

static int stop_by_driver(struct endpoint *endpoint)
{
	int error = driver_stop(endpoint);

	return error ? error : driver_put_status(endpoint, false);
}

int cmd_stop(const struct json_object *request)
{
	struct endpoint *endpoint;
	uint64_t deadline_ns;
	int error = want_endpoint(request, &endpoint);

	if (!error && driver_has(endpoint->bdf))
		return stop_by_driver(endpoint);
	if (!error)
		error = endpoint_map(endpoint);
	if (error)
		return error;
	write32(endpoint, STREAM_CONTROL, read32(endpoint, STREAM_CONTROL) & ~STREAM_CONTROL_RUN);
	deadline_ns = now_ns() + STOP_NS;
	while (read32(endpoint, STREAM_STATUS) & STREAM_STATUS_RUNNING) {
		if (now_ns() > deadline_ns)
			return fail(ETIMEDOUT, "%s still streams 2 s after run was cleared", endpoint->bdf);
		usleep(100);
	}
	reply_begin();
	put_counters(endpoint);
	return 0;
}

/* Leaves a mark of the guest's in the recording; a register that no driver has a use for. */
int cmd_mark(const struct json_object *request)
{
	struct endpoint *endpoint;
	uint64_t value;
	int error = want_u64(request, "value", &value);

	if (!error)
		error = want_endpoint(request, &endpoint);
	if (!error)
		error = endpoint_map(endpoint);
	if (error)
		return error;
	write32(endpoint, STREAM_MARK, value);
	return 0;
}

bool stream_is_running(struct endpoint *endpoint)
{
	bool is_running;

	if (driver_has(endpoint->bdf) && !driver_is_running(endpoint, &is_running))
		return is_running;
	return !endpoint_map(endpoint) && read32(endpoint, STREAM_STATUS) & STREAM_STATUS_RUNNING;
}
