// SPDX-License-Identifier: GPL-2.0-only
/* Arming an MSI-X vector without a driver, and reading what arrived. */
#include <ctype.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "agent.h"

#define MESSAGE_ADDRESS		0xfee00000u	/* fixed delivery to the APIC with id 0, physical mode */
#define GUEST_VECTOR		0xf7u		/* X86_PLATFORM_IPI_VECTOR: handled silently */
#define ROWS_BYTES		16384
#define MAX_ATTEMPTS		16

/* Writes one table entry under its mask bit, then lifts that (PCIe 6.0 7.7.2 and 7.9.2). */
static int write_entry(const char *bdf, uint32_t table, unsigned int vector, uint32_t data)
{
	size_t bar_bytes, offset = (table & PCI_MSIX_TABLE_OFFSET) + vector * PCI_MSIX_ENTRY_SIZE;
	volatile uint32_t *entry;
	volatile uint8_t *bar;
	int error = pci_map_bar(bdf, table & PCI_MSIX_TABLE_BIR, &bar, &bar_bytes);

	if (error)
		return error;
	if (offset + PCI_MSIX_ENTRY_SIZE > bar_bytes) {
		munmap((void *)bar, bar_bytes);
		return fail(ENXIO, "MSI-X entry at 0x%zx is beyond BAR%u of %zu bytes", offset,
			    table & PCI_MSIX_TABLE_BIR, bar_bytes);
	}
	entry = (volatile uint32_t *)(bar + offset);
	entry[PCI_MSIX_ENTRY_VECTOR_CTRL / 4] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	entry[PCI_MSIX_ENTRY_LOWER_ADDR / 4] = MESSAGE_ADDRESS;
	entry[PCI_MSIX_ENTRY_UPPER_ADDR / 4] = 0;
	entry[PCI_MSIX_ENTRY_DATA / 4] = data;
	entry[PCI_MSIX_ENTRY_VECTOR_CTRL / 4] = 0;
	munmap((void *)bar, bar_bytes);
	return 0;
}

static int arm(const char *bdf, unsigned int vector, uint32_t data, uint32_t *before, uint32_t *after)
{
	unsigned int msix;
	uint32_t table;
	int error = pci_enable(bdf);	/* the table is behind a BAR */

	if (!error)
		error = pci_find_capability(bdf, PCI_CAP_ID_MSIX, &msix);
	if (!error)
		error = pci_config_read(bdf, msix + PCI_MSIX_FLAGS, 2, before);
	if (!error && vector > (*before & PCI_MSIX_FLAGS_QSIZE))
		return fail(EINVAL, "vector %u of %s: it has %u", vector, bdf,
			    (*before & PCI_MSIX_FLAGS_QSIZE) + 1);
	if (!error)
		error = pci_config_read(bdf, msix + PCI_MSIX_TABLE, 4, &table);
	if (!error)
		error = write_entry(bdf, table, vector, data);
	*after = (*before | PCI_MSIX_FLAGS_ENABLE) & ~PCI_MSIX_FLAGS_MASKALL;
	if (!error && *after != *before)
		error = pci_config_write(bdf, msix + PCI_MSIX_FLAGS, 2, *after);
	if (!error)
		error = pci_config_read(bdf, msix + PCI_MSIX_FLAGS, 2, after);
	return error;
}

int cmd_arm(const struct json_object *request)
{
	uint64_t vector, guest_vector;
	uint32_t before, after;
	const char *bdf;
	int error = want_string(request, "bdf", &bdf);

	if (!error)
		error = want_u64_or(request, "vector", 0, &vector);
	if (!error)
		error = want_u64_or(request, "guest_vector", GUEST_VECTOR, &guest_vector);
	if (error)
		return error;
	if (vector > PCI_MSIX_FLAGS_QSIZE || guest_vector < 0x20 || guest_vector > 0xff)
		return fail(EINVAL, "vector or guest_vector is out of range");
	if (driver_has(bdf)) {	/* which has set up its vectors itself, or will at finish */
		reply_begin();
		put_bool("driver", true);
		return 0;
	}
	error = arm(bdf, vector, guest_vector, &before, &after);
	if (error)
		return error;
	reply_begin();
	put_u64("control_before", before);
	put_u64("control", after);
	return 0;
}

/* The first number of the "intr" line of /proc/stat: everything the kernel has counted. */
static int total_interrupts(uint64_t *total)
{
	static char text[16384];
	const char *line;

	if (read_file("/proc/stat", text, sizeof(text)) < 0)
		return fail(errno, "cannot read /proc/stat: %s", strerror(errno));
	line = strstr(text, "\nintr ");
	if (!line)
		return fail(EIO, "/proc/stat has no intr line");
	*total = strtoull(line + strlen("\nintr "), NULL, 10);
	return 0;
}

/* One line of /proc/interrupts: a label, one count for each CPU, words. Cuts the label off. */
static uint64_t sum_of_row(char *line, const char **label)
{
	char *colon = strchr(line, ':'), *at;
	uint64_t sum = 0;

	*label = NULL;
	if (!colon)
		return 0;
	*colon = '\0';
	*label = line + strspn(line, " ");
	for (at = colon + 1;; ) {
		at += strspn(at, " ");
		if (!isdigit((unsigned char)*at))
			return sum;
		sum += strtoull(at, &at, 10);
	}
}

static uint64_t sum_of_rows(char *text)
{
	const char *label;
	uint64_t sum = 0;
	char *line;

	while ((line = strsep(&text, "\n")))
		sum += sum_of_row(line, &label);
	return sum;
}

/* Reads the rows between two equal totals, so that rows and total are of one moment. */
static int read_interrupts(char *rows, size_t capacity_bytes, uint64_t *hidden)
{
	static char copy[ROWS_BYTES];
	uint64_t before = 0, after = 1, sum = 0;
	int error = 0;

	for (int i = 0; !error && before != after && i < MAX_ATTEMPTS; i++) {
		error = total_interrupts(&before);
		if (!error && read_file("/proc/interrupts", rows, capacity_bytes) < 0)
			error = fail(errno, "cannot read /proc/interrupts: %s", strerror(errno));
		if (!error)
			error = total_interrupts(&after);
		strcpy(copy, rows);
		sum = sum_of_rows(copy);
	}
	*hidden = !error && before == after && before > sum ? before - sum : 0;
	return error;
}

/*
 * Sums over the CPUs, by label; counts of zero are left out. Linux shows the row PLT only where a
 * platform has a callback for it (7.3 arch/x86/kernel/irq.c irq_init_stats), but counts it in the
 * total of /proc/stat: what no row shows is given as PLT.
 */
int cmd_interrupts(const struct json_object *request)
{
	static char rows[ROWS_BYTES];
	char *rest = rows, *line;
	bool is_first = true;
	uint64_t hidden;
	int error = read_interrupts(rows, sizeof(rows), &hidden);

	(void)request;
	if (error)
		return error;
	reply_begin();
	put_key("counts");
	put_text("{");
	while ((line = strsep(&rest, "\n"))) {
		const char *label;
		uint64_t sum = sum_of_row(line, &label);

		if (!sum)
			continue;
		put_text("%s", is_first ? "" : ",");
		put_quoted(label);
		put_text(":%llu", (unsigned long long)sum);
		is_first = false;
	}
	if (hidden)
		put_text("%s\"PLT\":%llu", is_first ? "" : ",", (unsigned long long)hidden);
	put_text("}");
	return 0;
}
