/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the agent's parts share. Functions return 0 or -errno; before they return an error they say
 * in fail() what was being done, and main.c turns that into the one error reply.
 */
#ifndef LUSCOPE_AGENT_H
#define LUSCOPE_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGE_BYTES		4096u
#define BDF_BYTES		16	/* "0000:03:00.0" and its zero, rounded up */
#define MAX_ENDPOINTS		16
#define MAX_RING_PAGES		512	/* what the stream endpoint's page table holds */
#define MAX_MEMBERS		24
#define MAX_LINE_BYTES		16384

#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))

/* json.c: one flat object; keys and strings point into the parsed line, which is changed in place. */
struct json_member {
	const char *key;
	const char *string;	/* NULL if the value is a number */
	uint64_t number;	/* true is 1, false is 0 */
};

struct json_object {
	size_t count;
	struct json_member members[MAX_MEMBERS];
};

int json_parse(char *text, struct json_object *object, const char **why);
const struct json_member *json_find(const struct json_object *object, const char *key);

/* request members; a missing or mistyped one is -EINVAL with the member's name in fail() */
int want_u64(const struct json_object *request, const char *key, uint64_t *value);
int want_u64_or(const struct json_object *request, const char *key, uint64_t fallback, uint64_t *value);
int want_string(const struct json_object *request, const char *key, const char **value);
int want_string_or(const struct json_object *request, const char *key, const char *fallback,
		   const char **value);

/* crc32.c: zlib's CRC-32; start with 0. */
uint32_t crc32_update(uint32_t crc, const void *data, size_t size_bytes);

/* channel.c: the line protocol with the host. */
int channel_open(const char *where);
void channel_drain(void);
int channel_receive(char *line, size_t capacity_bytes, int timeout_ms, struct json_object *request,
		    uint64_t *seq);
void line_begin(void);
void line_end(void);
void put_u64(const char *key, uint64_t value);
void put_bool(const char *key, bool value);
void put_string(const char *key, const char *value);
void put_hex(const char *key, uint32_t value);
void put_key(const char *key);
void put_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
void put_quoted(const char *value);
void event_begin(const char *name);
void event_error(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* main.c */
int agent_main(const char *channel, bool in_guest);
int fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *failure_text(void);
void reply_begin(void);
void reply_end(void);
void reply_begin_error(int error);
void reply_error(uint64_t seq, int error);
uint64_t now_ns(void);
uint64_t kernel_update_number(void);
typedef int command_fn(const struct json_object *request);

/* system.c: small files, and what the kernel says about itself */
ssize_t read_file(const char *path, char *text, size_t capacity_bytes);
bool cmdline_value(const char *key, char *value, size_t capacity_bytes);
bool cmdline_has(const char *word);
void put_kernel_facts(void);

/* pci.c */
struct endpoint;
int pci_config_read(const char *bdf, unsigned int offset, unsigned int width, uint32_t *value);
int pci_config_write(const char *bdf, unsigned int offset, unsigned int width, uint32_t value);
int pci_enable(const char *bdf);
int pci_map_bar(const char *bdf, unsigned int bar, volatile uint8_t **mapping, size_t *size_bytes);
int pci_find_capability(const char *bdf, uint8_t id, unsigned int *offset);
bool pci_exists(const char *bdf);
int check_bdf(const char *bdf);
command_fn cmd_devices, cmd_config;

/* state.c */
command_fn cmd_state;

/* luo.c; a session's fd stays open until finish, unpreserve or the jump */
bool luo_is_present(void);
int luo_session(const char *name, int *fd);	/* name NULL: the one opened last */
int luo_retrieve_session(const char *name, int *fd);
int luo_preserve(int session, int fd, uint64_t token);
int luo_retrieve(int session, uint64_t token, int *fd);
int luo_finish(int session);
int luo_session_close(int session);
command_fn cmd_session;

/* ring.c: ring pages and one mailbox page after them, per endpoint: a memfd's, or the driver's */
struct ring {
	int fd;			/* owned; -1 before there is a ring */
	bool is_driver;		/* fd is the driver's device, not a memfd */
	uint8_t *memory;	/* owned mapping of pages + 1 pages */
	unsigned int pages;	/* ring pages, without the mailbox page */
	uint64_t token;
	int session;		/* borrowed from luo.c; -1 if not preserved */
	uint64_t frames[MAX_RING_PAGES + 1];
};

struct endpoint {
	char bdf[BDF_BYTES];	/* empty if the place is free */
	struct ring ring;
	volatile uint8_t *bar0;	/* owned mapping, NULL until used */
	size_t bar0_bytes;
};

struct endpoint *endpoint_find(const char *bdf);
int endpoint_get(const char *bdf, struct endpoint **endpoint);
int endpoint_with_ring(const char *bdf, struct endpoint **endpoint);
struct endpoint *endpoint_at(unsigned int index);
void put_frames(const char *key, const uint64_t *frames, unsigned int count);
int ring_init(struct ring *ring, const char *name, unsigned int pages);
void ring_fill_mailbox(const struct ring *ring);
void ring_deinit(struct ring *ring);
uint64_t *ring_mailbox(const struct ring *ring);
int ring_map(struct ring *ring, unsigned int pages);
int ring_preserve(struct ring *ring, int session, uint64_t token);
int ring_locate(struct ring *ring, unsigned int *moved);

/* driver.c: the kernel's driver for an endpoint, where there is one */
struct stream_settings {
	uint64_t period_ns, interrupt_every, vector, generation, interrupt_enable;
};

bool driver_is_anywhere(void);
bool driver_has(const char *bdf);
bool driver_is_fd(int fd);
int driver_ring_init(struct ring *ring, const char *bdf, unsigned int pages);
int driver_ring_map(struct ring *ring, unsigned int pages);
int driver_frames(const struct ring *ring, uint64_t *frames);
int driver_start(const struct ring *ring, const struct stream_settings *settings);
int driver_stop(struct endpoint *endpoint);
int driver_is_running(struct endpoint *endpoint, bool *is_running);
int driver_put_status(struct endpoint *endpoint, bool is_whole);
void driver_put_refusal(const char *bdf);

/* preserve.c */
command_fn cmd_buffer, cmd_preserve, cmd_unpreserve, cmd_retrieve, cmd_finish;

/* stream.c */
int endpoint_map(struct endpoint *endpoint);
int stream_page_table(struct endpoint *endpoint, uint64_t *iovas, unsigned int count);
bool stream_is_running(struct endpoint *endpoint);
command_fn cmd_stream, cmd_claim, cmd_stop, cmd_status, cmd_mark, cmd_rescan;

/* check.c */
command_fn cmd_check;

/* memory.c */
int page_frames(const void *memory, unsigned int pages, uint64_t *frames);
command_fn cmd_fill, cmd_scan;

/* kexec.c */
command_fn cmd_load, cmd_freeze, cmd_poweroff;

/* irq.c */
command_fn cmd_arm, cmd_interrupts;

#endif
