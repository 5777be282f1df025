// SPDX-License-Identifier: GPL-2.0-only
/* Loading the next kernel, the freeze handshake and the jump; power off. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

#define NEXT_KERNEL		"/boot/next"
#define RUNNING_INITRD		"/sys/firmware/initrd"	/* there with retain_initrd */
#define FILE_DEBUG		0x8u	/* linux 7.3 uapi/linux/kexec.h KEXEC_FILE_DEBUG */
#define CMDLINE_BYTES		2048	/* x86 COMMAND_LINE_SIZE */
#define ACK_TIMEOUT_MS		30000

static int open_input(const char *path, int *fd)
{
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	return *fd < 0 ? fail(errno, "cannot open %s: %s", path, strerror(errno)) : 0;
}

/* No initrd at all if its path is empty. */
static int load(const char *kernel, const char *initrd, const char *cmdline, unsigned long flags)
{
	int kernel_fd, initrd_fd = -1, error = open_input(kernel, &kernel_fd);

	if (error)
		return error;
	if (*initrd)
		error = open_input(initrd, &initrd_fd);
	else
		flags |= KEXEC_FILE_NO_INITRAMFS;
	if (!error && syscall(SYS_kexec_file_load, kernel_fd, initrd_fd, strlen(cmdline) + 1, cmdline, flags))
		error = fail(errno, "kexec_file_load of %s with %s: %s", kernel, initrd, strerror(errno));
	close(kernel_fd);
	if (initrd_fd >= 0)
		close(initrd_fd);
	return error;
}

/* The next kernel is told how many updates lie behind it; the last luscope.update= counts. */
int cmd_load(const struct json_object *request)
{
	const char *kernel, *initrd, *cmdline;
	char text[CMDLINE_BYTES];
	uint64_t debug, began_ns, took_ns;
	int length, error;

	error = want_string(request, "cmdline", &cmdline);
	if (!error)
		error = want_string_or(request, "kernel", NEXT_KERNEL, &kernel);
	if (!error)
		error = want_string_or(request, "initrd", RUNNING_INITRD, &initrd);
	if (!error)
		error = want_u64_or(request, "debug", 0, &debug);
	if (error)
		return error;
	length = snprintf(text, sizeof(text), "%s luscope.update=%llu", cmdline,
			  (unsigned long long)kernel_update_number() + 1);
	if (length >= (int)sizeof(text))
		return fail(E2BIG, "a command line of %d bytes is longer than %zu", length,
			    sizeof(text) - 1);
	began_ns = now_ns();
	error = load(kernel, initrd, text, debug ? FILE_DEBUG : 0);
	took_ns = now_ns() - began_ns;
	if (error)
		return error;
	reply_begin();
	put_u64("took_ns", took_ns);
	return 0;
}

/* Waits for {"cmd":"frozen_ack"}; any other command is refused meanwhile. */
static int wait_for_acknowledgement(void)
{
	static char line[MAX_LINE_BYTES + 1];
	uint64_t deadline_ns = now_ns() + ACK_TIMEOUT_MS * 1000000ull;
	struct json_object request;
	const char *name;
	uint64_t seq;

	for (;;) {
		uint64_t now = now_ns();
		int left_ms = now < deadline_ns ? (deadline_ns - now) / 1000000 : 0;
		int error = channel_receive(line, sizeof(line), left_ms, &request, &seq);

		if (error == -ETIMEDOUT || error == -EPIPE)
			return error;
		if (error == -EBADMSG || error == -EMSGSIZE)
			continue;
		if (!error)
			error = want_string(&request, "cmd", &name);
		if (!error && !strcmp(name, "frozen_ack"))
			return 0;
		if (!error)
			error = fail(EBUSY, "frozen: only frozen_ack is taken");
		reply_error(seq, -error);
	}
}

/* Comes back only if the kernel refuses to jump, or the host never acknowledged. */
int cmd_freeze(const struct json_object *request)
{
	int error;

	(void)request;
	reply_begin();
	reply_end();
	event_begin("frozen");
	line_end();
	channel_drain();
	error = wait_for_acknowledgement();
	if (error) {
		event_error(-error, "no frozen_ack within %d ms: not rebooting", ACK_TIMEOUT_MS);
		return 0;
	}
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	error = errno;
	event_begin("reboot_failed");
	put_u64("errno", error);
	put_string("what", strerror(error));
	line_end();
	return 0;
}

int cmd_poweroff(const struct json_object *request)
{
	(void)request;
	reply_begin();
	reply_end();
	channel_drain();
	reboot(RB_POWER_OFF);
	event_error(errno, "power off: %s", strerror(errno));
	return 0;
}
