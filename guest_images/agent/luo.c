// SPDX-License-Identifier: GPL-2.0-only
/*
 * The Live Update Orchestrator: sessions by name. Their descriptors stay open until they are
 * finished or the kernel is replaced, for closing one un-preserves what it holds.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent.h"
#include "liveupdate_abi.h"

#define MAX_SESSIONS	16

struct session {
	char name[LUO_NAME_BYTES];
	int fd;		/* owned; 0 if the place is free */
};

static struct session sessions[MAX_SESSIONS];
static struct session *latest;

bool luo_is_present(void)
{
	return !access(LUO_DEVICE, F_OK);
}

static struct session *find_session(const char *name)
{
	if (!name)
		return latest;
	for (size_t i = 0; i < MAX_SESSIONS; i++)
		if (sessions[i].fd && !strcmp(sessions[i].name, name))
			return &sessions[i];
	return NULL;
}

static int free_session(struct session **session)
{
	for (size_t i = 0; i < MAX_SESSIONS; i++) {
		*session = &sessions[i];
		if (!sessions[i].fd)
			return 0;
	}
	return fail(EMFILE, "%d sessions are open already", MAX_SESSIONS);
}

/* /dev/liveupdate has one opener at a time, so it is held for this call only. */
static int open_session(unsigned long request, const char *what, const char *name, int *fd)
{
	struct luo_session_args args = { .size = sizeof(args) };
	struct session *session;
	int luo, error = free_session(&session);

	if (error)
		return error;
	if (!*name || strlen(name) >= sizeof(args.name))
		return fail(EINVAL, "session name of %zu bytes: 1 to %zu", strlen(name),
			    sizeof(args.name) - 1);
	luo = open(LUO_DEVICE, O_RDWR | O_CLOEXEC);
	if (luo < 0)
		return fail(errno, "cannot open " LUO_DEVICE ": %s", strerror(errno));
	memcpy(args.name, name, strlen(name));
	error = ioctl(luo, request, &args) ? errno : 0;
	close(luo);
	if (error)
		return fail(error, "%s \"%s\": %s", what, name, strerror(error));
	strcpy(session->name, name);
	session->fd = args.fd;
	latest = session;
	*fd = args.fd;
	return 0;
}

int luo_session(const char *name, int *fd)
{
	struct session *session = find_session(name);

	if (!session)
		return name ? fail(ENOENT, "no session \"%s\" is open", name) :
			      fail(ENOENT, "no session is open");
	*fd = session->fd;
	return 0;
}

/* The session an earlier kernel left; asked a second time, the descriptor of the first. */
int luo_retrieve_session(const char *name, int *fd)
{
	struct session *session = find_session(name);

	if (!session)
		return open_session(LUO_RETRIEVE_SESSION, "RETRIEVE_SESSION", name, fd);
	*fd = session->fd;
	return 0;
}

int luo_preserve(int session, int fd, uint64_t token)
{
	struct luo_fd_args args = { .size = sizeof(args), .fd = fd, .token = token };

	if (ioctl(session, LUO_PRESERVE_FD, &args))
		return fail(errno, "PRESERVE_FD, token %llu: %s", (unsigned long long)token,
			    strerror(errno));
	return 0;
}

int luo_retrieve(int session, uint64_t token, int *fd)
{
	struct luo_fd_args args = { .size = sizeof(args), .token = token };

	if (ioctl(session, LUO_RETRIEVE_FD, &args))
		return fail(errno, "RETRIEVE_FD, token %llu: %s", (unsigned long long)token,
			    strerror(errno));
	*fd = args.fd;
	return 0;
}

int luo_finish(int session)
{
	struct luo_finish_args args = { .size = sizeof(args) };

	return ioctl(session, LUO_FINISH, &args) ? fail(errno, "FINISH: %s", strerror(errno)) : 0;
}

/* Un-preserves what an outgoing session holds; a finished one holds nothing any more. */
int luo_session_close(int session)
{
	for (size_t i = 0; i < MAX_SESSIONS; i++)
		if (sessions[i].fd == session) {
			if (latest == &sessions[i])
				latest = NULL;
			sessions[i].fd = 0;
		}
	return close(session) ? fail(errno, "closing the session: %s", strerror(errno)) : 0;
}

int cmd_session(const struct json_object *request)
{
	const char *name;
	int fd, error = want_string(request, "name", &name);

	if (error)
		return error;
	if (find_session(name))
		return fail(EEXIST, "session \"%s\" is open already", name);
	return open_session(LUO_CREATE_SESSION, "CREATE_SESSION", name, &fd);
}
