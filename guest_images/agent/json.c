// SPDX-License-Identifier: GPL-2.0-only
/*
 * A parser for one flat JSON object (RFC 8259 without arrays, nested objects, null, negative numbers
 * and fractions): what the host sends needs no more, and the rest is refused by name.
 */
#include <errno.h>
#include <string.h>

#include "agent.h"

static char *skip_space(char *at)
{
	while (*at == ' ' || *at == '\t')
		at++;
	return at;
}

static int parse_hex4(const char *at, unsigned int *value)
{
	*value = 0;
	for (int i = 0; i < 4; i++) {
		char c = at[i];

		*value <<= 4;
		if (c >= '0' && c <= '9')
			*value |= c - '0';
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			*value |= (c | 0x20) - 'a' + 10;
		else
			return -EINVAL;
	}
	return 0;
}

/* UTF-8 of a code point below 0x10000, never longer than the six bytes of its escape. */
static char *put_utf8(char *out, unsigned int code)
{
	if (code < 0x80) {
		*out++ = code;
	} else if (code < 0x800) {
		*out++ = 0xc0 | code >> 6;
		*out++ = 0x80 | (code & 0x3f);
	} else {
		*out++ = 0xe0 | code >> 12;
		*out++ = 0x80 | (code >> 6 & 0x3f);
		*out++ = 0x80 | (code & 0x3f);
	}
	return out;
}

static int parse_escape(char **at, char **out, const char **why)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	const char *name;
	unsigned int code;

	if (**at == 'u') {
		if (parse_hex4(*at + 1, &code) || !code || (code >= 0xd800 && code < 0xe000)) {
			*why = "a \\u escape is malformed, zero or a surrogate";
			return -EINVAL;
		}
		*at += 5;
		*out = put_utf8(*out, code);
		return 0;
	}
	name = **at ? strchr(names, **at) : NULL;
	if (!name) {
		*why = "an unknown escape in a string";
		return -EINVAL;
	}
	*(*out)++ = values[name - names];
	(*at)++;
	return 0;
}

/* Unescapes in place; *at is behind the opening quote and ends behind the closing one. */
static int parse_string(char **at, const char **string, const char **why)
{
	char *out = *at;

	*string = out;
	while (**at != '"') {
		if ((unsigned char)**at < 0x20) {
			*why = "a string has no end";
			return -EINVAL;
		}
		if (**at == '\\') {
			(*at)++;
			if (parse_escape(at, &out, why))
				return -EINVAL;
		} else {
			*out++ = *(*at)++;
		}
	}
	(*at)++;
	*out = '\0';
	return 0;
}

static int parse_number(char **at, uint64_t *number, const char **why)
{
	*number = 0;
	while (**at >= '0' && **at <= '9') {
		if (__builtin_mul_overflow(*number, 10, number) ||
		    __builtin_add_overflow(*number, (uint64_t)(**at - '0'), number)) {
			*why = "a number is beyond 64 bits";
			return -EINVAL;
		}
		(*at)++;
	}
	if (**at == '.' || (**at | 0x20) == 'e') {
		*why = "a number is not an integer";
		return -EINVAL;
	}
	return 0;
}

static int parse_value(char **at, struct json_member *member, const char **why)
{
	member->string = NULL;
	if (**at == '"') {
		(*at)++;
		return parse_string(at, &member->string, why);
	}
	if (**at >= '0' && **at <= '9')
		return parse_number(at, &member->number, why);
	if (!strncmp(*at, "true", 4)) {
		member->number = 1;
		*at += 4;
		return 0;
	}
	if (!strncmp(*at, "false", 5)) {
		member->number = 0;
		*at += 5;
		return 0;
	}
	if (**at == '{' || **at == '[')
		*why = "a value is nested; only strings and unsigned integers are taken";
	else
		*why = "a value is neither a string nor an unsigned integer";
	return -EINVAL;
}

static int parse_member(char **at, struct json_object *object, const char **why)
{
	struct json_member *member = &object->members[object->count];

	if (object->count == MAX_MEMBERS) {
		*why = "too many members";
		return -E2BIG;
	}
	*at = skip_space(*at);
	if (*(*at)++ != '"') {
		*why = "a member's name is missing";
		return -EINVAL;
	}
	if (parse_string(at, &member->key, why))
		return -EINVAL;
	if (json_find(object, member->key)) {
		*why = "a member is given twice";
		return -EINVAL;
	}
	*at = skip_space(*at);
	if (*(*at)++ != ':') {
		*why = "a colon is missing";
		return -EINVAL;
	}
	*at = skip_space(*at);
	if (parse_value(at, member, why))
		return -EINVAL;
	object->count++;
	*at = skip_space(*at);
	return 0;
}

/* Parses zero-terminated @text; on an error *why says what is wrong with it. */
int json_parse(char *text, struct json_object *object, const char **why)
{
	char *at = skip_space(text);
	int error;

	object->count = 0;
	if (*at++ != '{') {
		*why = "not a JSON object";
		return -EINVAL;
	}
	do {
		error = parse_member(&at, object, why);
		if (error)
			return error;
	} while (*at++ == ',');
	if (at[-1] != '}' || *skip_space(at)) {
		*why = "the object does not end where the line does";
		return -EINVAL;
	}
	return 0;
}

const struct json_member *json_find(const struct json_object *object, const char *key)
{
	for (size_t i = 0; i < object->count; i++)
		if (!strcmp(object->members[i].key, key))
			return &object->members[i];
	return NULL;
}

int want_u64_or(const struct json_object *request, const char *key, uint64_t fallback, uint64_t *value)
{
	const struct json_member *member = json_find(request, key);

	if (member && member->string)
		return fail(EINVAL, "member \"%s\" is not an unsigned integer", key);
	*value = member ? member->number : fallback;
	return 0;
}

int want_u64(const struct json_object *request, const char *key, uint64_t *value)
{
	if (!json_find(request, key))
		return fail(EINVAL, "member \"%s\" is missing", key);
	return want_u64_or(request, key, 0, value);
}

int want_string_or(const struct json_object *request, const char *key, const char *fallback,
		   const char **value)
{
	const struct json_member *member = json_find(request, key);

	if (member && !member->string)
		return fail(EINVAL, "member \"%s\" is not a string", key);
	*value = member ? member->string : fallback;
	return 0;
}

int want_string(const struct json_object *request, const char *key, const char **value)
{
	if (!json_find(request, key))
		return fail(EINVAL, "member \"%s\" is missing", key);
	return want_string_or(request, key, NULL, value);
}
