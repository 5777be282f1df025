// SPDX-License-Identifier: GPL-2.0-only
/*
 * The agent proper: says hello, then serves one command at a time. As PID 1 the same binary is init
 * (init.c). Started by hand with --channel it serves the protocol but refuses what would touch the
 * machine it runs on.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "init.h"

struct command {
	const char *name;
	command_fn *run;
	bool touches_machine;	/* refused outside a guest */
};

static command_fn cmd_ping;

static const struct command commands[] = {
	{ "ping", cmd_ping, false },
	{ "devices", cmd_devices, false },
	{ "state", cmd_state, false },
	{ "config", cmd_config, true },
	{ "session", cmd_session, true },
	{ "buffer", cmd_buffer, true },
	{ "preserve", cmd_preserve, true },
	{ "unpreserve", cmd_unpreserve, true },
	{ "stream", cmd_stream, true },
	{ "status", cmd_status, true },
	{ "mark", cmd_mark, true },
	{ "rescan", cmd_rescan, true },
	{ "arm", cmd_arm, true },
	{ "interrupts", cmd_interrupts, false },
	{ "load", cmd_load, true },
	{ "freeze", cmd_freeze, true },
	{ "retrieve", cmd_retrieve, true },
	{ "claim", cmd_claim, true },
	{ "stop", cmd_stop, true },
	{ "check", cmd_check, true },
	{ "finish", cmd_finish, true },
	{ "fill", cmd_fill, true },
	{ "scan", cmd_scan, true },
	{ "poweroff", cmd_poweroff, true },
};

static bool is_in_guest;
static enum { REPLY_OWED, REPLY_BEGUN, REPLY_SENT } reply_state;
static uint64_t command_seq;
static char failure[256];

/* Keeps the text of the error reply; the last call before the return wins. */
int fail(int error, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(failure, sizeof(failure), format, arguments);
	va_end(arguments);
	return -error;
}

const char *failure_text(void)
{
	return failure;
}

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* How many live updates lie behind this kernel, as whoever loaded it wrote on its command line. */
uint64_t kernel_update_number(void)
{
	char text[24];

	return cmdline_value("luscope.update", text, sizeof(text)) ? strtoull(text, NULL, 10) : 0;
}

/* Starts the good reply of the command under way; nothing may fail after it. */
void reply_begin(void)
{
	line_begin();
	put_u64("re", command_seq);
	put_bool("ok", true);
	reply_state = REPLY_BEGUN;
}

/* Sends it at once, for a command that goes on after its reply. */
void reply_end(void)
{
	line_end();
	reply_state = REPLY_SENT;
}

static void put_error(uint64_t seq, int error)
{
	line_begin();
	put_u64("re", seq);
	put_bool("ok", false);
	put_u64("errno", error);
	put_string("error", failure);
}

/* Starts the error reply of the command under way, for one that has more to say than fail() holds. */
void reply_begin_error(int error)
{
	put_error(command_seq, error);
	reply_state = REPLY_BEGUN;
}

void reply_error(uint64_t seq, int error)
{
	put_error(seq, error);
	line_end();
}

static int cmd_ping(const struct json_object *request)
{
	(void)request;
	return 0;
}

static int run_command(const struct json_object *request)
{
	const char *name;
	int error = want_string(request, "cmd", &name);

	if (error)
		return error;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, name))
			continue;
		if (commands[i].touches_machine && !is_in_guest)
			return fail(EPERM, "%s is refused: the agent was not started by its own init", name);
		return commands[i].run(request);
	}
	return fail(ENOSYS, "unknown command \"%.64s\"", name);
}

static void serve(const struct json_object *request)
{
	int error;

	reply_state = REPLY_OWED;
	snprintf(failure, sizeof(failure), "no text");
	error = run_command(request);
	if (reply_state == REPLY_OWED && error) {
		reply_error(command_seq, -error);
		return;
	}
	if (reply_state == REPLY_OWED)
		reply_begin();
	if (reply_state == REPLY_BEGUN)
		reply_end();
}

static void say_hello(void)
{
	struct utsname names;
	char boot_id[64] = "";

	uname(&names);
	read_file("/proc/sys/kernel/random/boot_id", boot_id, sizeof(boot_id));
	event_begin("hello");
	put_string("release", names.release);
	put_bool("incoming", kernel_update_number() > 0);
	put_bool("liveupdate", luo_is_present());
	put_bool("driver", driver_is_anywhere());
	put_u64("update", kernel_update_number());
	put_string("boot_id", boot_id);
	put_kernel_facts();
	line_end();
}

/* Serves until the host closes the channel; returns the exit status. */
int agent_main(const char *channel, bool in_guest)
{
	static char line[MAX_LINE_BYTES + 1];
	struct json_object request;
	int error = channel_open(channel);

	if (error) {
		fprintf(stderr, "luscope: agent cannot open %s: %s\n", channel, strerror(-error));
		return 3;
	}
	is_in_guest = in_guest;
	say_hello();
	for (;;) {
		error = channel_receive(line, sizeof(line), -1, &request, &command_seq);
		if (!error)
			serve(&request);
		else if (error == -EPROTO)
			reply_error(command_seq, EPROTO);
		else if (error == -EPIPE)
			return 0;
		else if (error != -EBADMSG && error != -EMSGSIZE) {
			fprintf(stderr, "luscope: agent cannot read %s: %s\n", channel, strerror(-error));
			return 4;
		}
	}
}

int main(int argc, char **argv)
{
	if (getpid() == 1)
		return init_main();
	if (argc == 3 && !strcmp(argv[1], "--channel"))
		return agent_main(argv[2], false);
	fprintf(stderr, "usage: %s --channel PATH|fd:N\n", argv[0]);
	return 2;
}
