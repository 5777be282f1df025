// SPDX-License-Identifier: GPL-2.0-only
/* Buffers made, preserved, un-preserved, retrieved and finished; each is told to the host as a report. */
#include <errno.h>
#include <string.h>

#include "agent.h"

static void put_mailbox(const struct ring *ring)
{
	put_u64("mailbox_gpa", ring->frames[ring->pages] * PAGE_BYTES);
	put_u64("mailbox", *ring_mailbox(ring));
}

static void put_report(const char *report, const struct endpoint *endpoint)
{
	const struct ring *ring = &endpoint->ring;

	put_string("report", report);
	if (ring->is_driver)
		put_bool("driver", true);
	put_string("bdf", endpoint->bdf);
	put_u64("token", ring->token);
	put_frames("ranges", ring->frames, ring->pages);
	put_mailbox(ring);
}

static int want_pages(const struct json_object *request, uint64_t *pages)
{
	int error = want_u64(request, "pages", pages);

	if (!error && (!*pages || *pages > MAX_RING_PAGES))
		return fail(EINVAL, "%llu pages: 1 to %u", (unsigned long long)*pages, MAX_RING_PAGES);
	return error;
}

/* Only a buffer that no session holds and no device writes to makes way for another. */
static int replace_ring(struct endpoint *endpoint)
{
	if (endpoint->ring.fd < 0)
		return 0;
	if (endpoint->ring.session >= 0)
		return fail(EEXIST, "%s has a buffer, and a session holds it", endpoint->bdf);
	if (pci_exists(endpoint->bdf) && stream_is_running(endpoint))
		return fail(EBUSY, "%s streams into the buffer it has", endpoint->bdf);
	ring_deinit(&endpoint->ring);
	return 0;
}

/* Without preserve=1 the reply is no report: to the host the buffer is just memory. */
int cmd_buffer(const struct json_object *request)
{
	const char *bdf, *name, *session_name;
	uint64_t pages, token, preserve;
	struct endpoint *endpoint;
	unsigned int moved = 0;
	int session = -1, error;

	error = want_string(request, "bdf", &bdf);
	if (!error)
		error = want_pages(request, &pages);
	if (!error)
		error = want_u64_or(request, "preserve", 0, &preserve);
	if (!error)
		error = preserve ? want_u64(request, "token", &token) :
				   want_u64_or(request, "token", 0, &token);
	if (!error)
		error = want_string_or(request, "name", "luscope", &name);
	if (!error)
		error = want_string_or(request, "session", NULL, &session_name);
	if (!error && preserve)
		error = luo_session(session_name, &session);
	if (!error)
		error = endpoint_get(bdf, &endpoint);
	if (!error)
		error = replace_ring(endpoint);
	if (error)
		return error;
	error = driver_has(bdf) ? driver_ring_init(&endpoint->ring, bdf, pages) :
				  ring_init(&endpoint->ring, name, pages);
	if (error)
		return error;
	endpoint->ring.token = token;
	error = ring_locate(&endpoint->ring, &moved);
	if (!error && preserve)
		error = ring_preserve(&endpoint->ring, session, token);
	if (!error && preserve)
		error = ring_locate(&endpoint->ring, &moved);
	if (error) {
		ring_deinit(&endpoint->ring);
		return error;
	}
	reply_begin();
	if (preserve) {
		put_report("preserve", endpoint);
		put_u64("moved", moved);
	} else {
		if (endpoint->ring.is_driver)
			put_bool("driver", true);
		put_string("bdf", bdf);
		put_frames("ranges", endpoint->ring.frames, pages);
		put_mailbox(&endpoint->ring);
	}
	return 0;
}

/* Preserves a buffer that exists: one made without preserve, or one retrieved, for the next update. */
int cmd_preserve(const struct json_object *request)
{
	const char *bdf, *session_name;
	struct endpoint *endpoint;
	unsigned int moved = 0;
	uint64_t token;
	int session, error;

	error = want_string(request, "bdf", &bdf);
	if (!error)
		error = want_u64(request, "token", &token);
	if (!error)
		error = want_string_or(request, "session", NULL, &session_name);
	if (!error)
		error = luo_session(session_name, &session);
	if (!error)
		error = endpoint_with_ring(bdf, &endpoint);
	if (error)
		return error;
	if (endpoint->ring.session >= 0)
		return fail(EEXIST, "the buffer of %s is in a session already", bdf);
	error = ring_preserve(&endpoint->ring, session, token);
	if (!error)
		error = ring_locate(&endpoint->ring, &moved);
	if (error)
		return error;
	reply_begin();
	put_report("preserve", endpoint);
	put_u64("moved", moved);
	return 0;
}

static struct endpoint *find_token(uint64_t token)
{
	for (unsigned int i = 0; i < MAX_ENDPOINTS; i++) {
		struct endpoint *endpoint = endpoint_at(i);

		if (endpoint->ring.session >= 0 && endpoint->ring.token == token)
			return endpoint;
	}
	return NULL;
}

static bool has_driver(int session)
{
	for (unsigned int i = 0; i < MAX_ENDPOINTS; i++)
		if (endpoint_at(i)->ring.session == session && endpoint_at(i)->ring.is_driver)
			return true;
	return false;
}

/* Lists [[bdf,token],...] of what a session holds, and forgets that it does. */
static void put_and_release(int session)
{
	bool is_first = true;

	put_key("buffers");
	put_text("[");
	for (unsigned int i = 0; i < MAX_ENDPOINTS; i++) {
		struct endpoint *endpoint = endpoint_at(i);
		struct ring *ring = &endpoint->ring;

		if (ring->session != session)
			continue;
		put_text("%s[\"%s\",%llu]", is_first ? "" : ",", endpoint->bdf,
			 (unsigned long long)ring->token);
		ring->session = -1;
		is_first = false;
	}
	put_text("]");
}

/*
 * The ABI has no call for one file: closing the session is how it is done, and so everything in the
 * same session goes with it; "buffers" says what.
 */
int cmd_unpreserve(const struct json_object *request)
{
	struct endpoint *endpoint;
	uint64_t token;
	int session, error = want_u64(request, "token", &token);

	if (error)
		return error;
	endpoint = find_token(token);
	if (!endpoint)
		return fail(ENOENT, "no session holds token %llu", (unsigned long long)token);
	session = endpoint->ring.session;
	error = luo_session_close(session);
	if (error)
		return error;
	reply_begin();
	put_report("unpreserve", endpoint);
	put_and_release(session);
	return 0;
}

/*
 * "table" says how the frames found compare with the addresses the device still holds: "match",
 * "differ", or "unread" where the function is absent or its memory space is off.
 */
static void put_table(struct endpoint *endpoint)
{
	const struct ring *ring = &endpoint->ring;
	uint64_t table[MAX_RING_PAGES];
	bool is_same = true;

	if (stream_page_table(endpoint, table, ring->pages)) {
		put_string("table", "unread");
		put_string("table_unread", failure_text());
		return;
	}
	for (unsigned int i = 0; i < ring->pages; i++) {
		is_same = is_same && table[i] == ring->frames[i] * PAGE_BYTES;
		table[i] /= PAGE_BYTES;
	}
	put_string("table", is_same ? "match" : "differ");
	put_frames("table_ranges", table, ring->pages);
}

int cmd_retrieve(const struct json_object *request)
{
	const char *bdf, *session_name;
	uint64_t token, pages, began_ns, took_ns;
	struct endpoint *endpoint;
	unsigned int moved;
	int session, error;

	error = want_string(request, "session", &session_name);
	if (!error)
		error = want_string(request, "bdf", &bdf);
	if (!error)
		error = want_u64(request, "token", &token);
	if (!error)
		error = want_pages(request, &pages);
	if (!error)
		error = endpoint_get(bdf, &endpoint);
	if (error)
		return error;
	if (endpoint->ring.fd >= 0)
		return fail(EEXIST, "%s has a buffer already", bdf);
	began_ns = now_ns();
	error = luo_retrieve_session(session_name, &session);
	if (!error)
		error = luo_retrieve(session, token, &endpoint->ring.fd);
	took_ns = now_ns() - began_ns;
	if (error && driver_has(bdf)) {
		reply_begin_error(-error);
		driver_put_refusal(bdf);
		return 0;
	}
	if (error)
		return error;
	endpoint->ring.is_driver = driver_is_fd(endpoint->ring.fd);
	endpoint->ring.token = token;
	endpoint->ring.session = session;
	error = ring_map(&endpoint->ring, pages);
	if (!error)
		error = ring_locate(&endpoint->ring, &moved);
	if (error) {
		ring_deinit(&endpoint->ring);
		return error;
	}
	reply_begin();
	put_report("retrieve", endpoint);
	put_u64("took_ns", took_ns);
	put_table(endpoint);
	return 0;
}

int cmd_finish(const struct json_object *request)
{
	uint64_t began_ns, took_ns;
	const char *name;
	int session, error = want_string(request, "session", &name);

	if (!error)
		error = luo_session(name, &session);
	if (error)
		return error;
	began_ns = now_ns();
	error = luo_finish(session);
	took_ns = now_ns() - began_ns;
	if (error)
		return error;
	reply_begin();
	put_string("report", "finish");
	if (has_driver(session))
		put_bool("driver", true);
	put_string("session", name);
	put_u64("took_ns", took_ns);
	put_and_release(session);
	luo_session_close(session);
	return 0;
}
