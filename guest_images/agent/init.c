// SPDX-License-Identifier: GPL-2.0-only
/*
 * PID 1: mounts what the agent reads, starts it, reaps, and powers off when it is gone, so that a
 * broken agent ends the run instead of hanging it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "agent.h"
#include "init.h"

#define CHANNEL	"/dev/ttyS1"
#define SHELL	"/bin/busybox"

struct mount_point {
	const char *type, *where;
	bool is_optional;	/* debugfs may be configured out */
};

static const struct mount_point mount_points[] = {
	{ "devtmpfs", "/dev", false },
	{ "proc", "/proc", false },
	{ "sysfs", "/sys", false },
	{ "tmpfs", "/tmp", false },
	{ "debugfs", "/sys/kernel/debug", true },
};

/* The initramfs holds no device node, so the kernel started us without standard streams. */
static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	if (fd < 0)
		return;
	for (int stream = 0; stream < 3; stream++)
		if (fd != stream)
			dup2(fd, stream);
	if (fd > 2)
		close(fd);
}

static void mount_all(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(mount_points); i++) {
		const struct mount_point *point = &mount_points[i];
		int error;

		mkdir(point->where, 0755);
		error = mount("luscope", point->where, point->type, 0, NULL) ? errno : 0;
		if (!i)
			open_console();
		if (error && !point->is_optional)
			fprintf(stderr, "luscope: init cannot mount %s: %s\n", point->where, strerror(error));
	}
}

static pid_t start_agent(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(agent_main(CHANNEL, true));
	return pid;
}

/* For a person at the console; its end ends nothing. */
static void start_shell(void)
{
	pid_t pid;

	if (!cmdline_has("luscope.shell") || access(SHELL, X_OK))
		return;
	pid = fork();
	if (!pid) {
		setsid();
		execl(SHELL, "sh", NULL);
		_exit(127);
	}
}

static int wait_for(pid_t agent)
{
	int status;
	pid_t gone;

	do
		gone = wait(&status);
	while (gone != agent && (gone > 0 || errno == EINTR));
	if (gone != agent)
		return 255;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Never returns: a PID 1 that ends is a kernel panic. */
int init_main(void)
{
	int status;

	mount_all();
	start_shell();
	status = wait_for(start_agent());
	fprintf(stderr, "luscope: agent exited, status %d\n", status);
	tcdrain(STDERR_FILENO);
	reboot(RB_POWER_OFF);
	fprintf(stderr, "luscope: power off failed: %s\n", strerror(errno));
	for (;;)
		pause();
}
