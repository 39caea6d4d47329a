/* SPDX-License-Identifier: Apache-2.0 */
#include "api/runask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/ask.h"
#include "api/network.h"
#include "api/text.h"
#include "daemon/fields.h"

#define PATH_TEXT_MAX 4000u
/* Where code goes that is too long for a command line: every user may read and write there. */
#define CODE_FOLDER "/tmp/.brig-run/"

void runask_done(struct run_ask *ask)
{
	for (size_t i = 0; i < ask->nfiles; i++) {
		free(ask->file[i].path);
		free(ask->file[i].data);
	}
	free(ask->file);
	free(ask->code);
	free(ask->input);
	json_decref(ask->spec);
	json_decref(ask->cmd);
	json_decref(ask->outputs);
	json_decref(ask->secrets);
	json_decref(ask->network);
	json_decref(ask->volumes);
	*ask = (struct run_ask){ .user = "" };
}

/* A string, or {"base64": string}. */
static int bytes_parse(json_t *v, const char *what, uint8_t **ret, size_t *ret_n,
		       struct brig_err *err)
{
	json_t *b64 =
		json_is_object(v) && json_object_size(v) == 1 ? json_object_get(v, "base64") : NULL;
	if (json_is_string(v)) {
		size_t n = json_string_length(v);
		uint8_t *p = malloc(n + 1);
		if (!p)
			return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
		memcpy(p, json_string_value(v), n);
		*ret = p;
		*ret_n = n;
		return 0;
	}
	if (json_is_string(b64)) {
		int r = text_base64_decode(json_string_value(b64), json_string_length(b64), ret,
					   ret_n);
		if (r == 0)
			return 0;
		return r == -ENOMEM ? brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory")
				    : brig_fail(err, BRIG_E_INVALID, 0, "%s is no base64", what);
	}
	return brig_fail(err, BRIG_E_INVALID, 0, "%s is neither a string nor {\"base64\": string}",
			 what);
}

/* A relative path is one below the working directory, if there is one; the agent reads it below the
 * user's home otherwise. */
static char *path_of(const struct run_ask *ask, const char *path)
{
	const char *dir = json_string_value(json_object_get(ask->spec, "workdir"));
	char *full = NULL;
	if (path[0] == '/' || !dir)
		return strdup(path);
	return asprintf(&full, "%s/%s", dir, path) < 0 ? NULL : full;
}

static int path_check(const char *path, struct brig_err *err)
{
	if (path[0] && strlen(path) <= PATH_TEXT_MAX)
		return 0;
	return brig_fail(err, BRIG_E_INVALID, 0, "a path is 1 to %u bytes long", PATH_TEXT_MAX);
}

static int file_add(struct run_ask *ask, const char *path, uint8_t *data, size_t n,
		    struct brig_err *err)
{
	struct run_file *more = reallocarray(ask->file, ask->nfiles + 1, sizeof(*more));
	char *copy = path_of(ask, path);
	if (more)
		ask->file = more;
	if (!more || !copy) {
		free(copy);
		free(data);
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	}
	ask->file[ask->nfiles++] = (struct run_file){ .path = copy, .data = data, .n = n };
	return 0;
}

static int files_parse(json_t *body, struct run_ask *ask, struct brig_err *err)
{
	json_t *files = NULL, *v;
	const char *path;
	if (field_object(body, "files", &files, err) < 0)
		return -1;
	if (json_object_size(files) > RUN_FILES_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "more than %u files", RUN_FILES_MAX);
	json_object_foreach(files, path, v)
	{
		uint8_t *data = NULL;
		size_t n = 0;
		char what[128];
		snprintf(what, sizeof(what), "file '%.100s'", path);
		if (path_check(path, err) < 0 || bytes_parse(v, what, &data, &n, err) < 0 ||
		    file_add(ask, path, data, n, err) < 0)
			return -1;
	}
	return 0;
}

static int outputs_parse(json_t *body, struct run_ask *ask, struct brig_err *err)
{
	json_t *list = NULL, *v;
	size_t i;
	if (field_strings(body, "output_files", RUN_FILES_MAX, 1024 * 1024, &list, err) < 0)
		return -1;
	json_array_foreach(list, i, v)
	{
		if (path_check(json_string_value(v), err) < 0)
			return brig_ctx(err, "output_files");
	}
	if (json_array_size(list))
		ask->outputs = json_incref(list);
	return 0;
}

/* The command of a language; long code becomes one more file. */
static int code_parse(struct run_ask *ask, const char *language, const char *code,
		      struct brig_err *err)
{
	const char *file = NULL;
	char path[128];
	size_t n = strlen(code);
	if (language_name(language, ask->language, err) < 0)
		return -1;
	if (n > LANGUAGE_INLINE_MAX) {
		file = language_file(ask->language);
		if (!file)
			return brig_fail(err, BRIG_E_LIMIT, 0,
					 "code of language '%s' is longer than %u bytes",
					 ask->language, LANGUAGE_INLINE_MAX);
		snprintf(path, sizeof(path), CODE_FOLDER "%s", file);
		uint8_t *data = (uint8_t *)strdup(code);
		if (!data)
			return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
		if (file_add(ask, path, data, n, err) < 0)
			return -1;
	}
	if (language_built_in(ask->language))
		ask->cmd = language_command(ask->language, code, file ? path : NULL);
	else
		ask->code = strdup(code);
	return ask->cmd || ask->code ? 0
				     : brig_fail(err, BRIG_E_INVALID, 0, "'code' is no UTF-8 text");
}

static int command_parse(json_t *body, struct run_ask *ask, struct brig_err *err)
{
	json_t *cmd = NULL;
	const char *language = NULL, *code = NULL;
	if (field_array(body, "cmd", &cmd, err) < 0 ||
	    field_str(body, "language", 64, &language, err) < 0 ||
	    field_str(body, "code", SIZE_MAX, &code, err) < 0)
		return -1;
	if (cmd && !language && !code) {
		ask->cmd = json_incref(cmd);
		return 0;
	}
	if (!cmd && language && code)
		return code_parse(ask, language, code, err);
	brig_err_set(err, BRIG_E_INVALID, 0, "either 'cmd', or 'language' and 'code'");
	return brig_fix(err, "for instance {\"language\": \"python\", \"code\": \"print(1)\"}");
}

static int env_parse(json_t *body, json_t *spec, struct brig_err *err)
{
	json_t *env = json_object_get(body, "env"), *list = NULL;
	if (!env)
		return 0;
	if (json_is_array(env)) {
		json_object_set(spec, "env", env);
		return 0;
	}
	if (!json_is_object(env))
		return brig_fail(err, BRIG_E_INVALID, 0, "'env' must be an object or an array");
	if (ask_env(env, &list, err) < 0)
		return -1;
	json_object_set_new(spec, "env", list);
	return 0;
}

static int spec_parse_run(json_t *body, json_t *spec, struct brig_err *err)
{
	static const char *const names[] = { "tier", "image", "workdir", "user", "hostname" };
	json_t *limits = json_object();
	json_object_set_new(spec, "limits", limits);
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *s = NULL;
		if (field_str(body, names[i], 4096, &s, err) < 0)
			return -1;
		if (s)
			json_object_set_new(spec, names[i], json_string(s));
	}
	return network_own_check(json_object_get(body, "network"), err) < 0 ||
			       ask_limits(json_object_get(body, "limits"), limits, err) < 0 ||
			       env_parse(body, spec, err) < 0
		       ? -1
		       : 0;
}

const char *const runask_fields[] = { "tier",	 "image", "cmd",      "language",     "code",
				      "files",	 "stdin", "env",      "limits",	      "network",
				      "workdir", "user",  "hostname", "output_files", "secrets", "volumes", NULL };

static int all_parse(json_t *body, struct run_ask *ask, struct brig_err *err)
{
	json_t *input = json_object_get(body, "stdin");
	if (fields_known(body, "the body", runask_fields, err) < 0 ||
	    spec_parse_run(body, ask->spec, err) < 0 || command_parse(body, ask, err) < 0 ||
	    files_parse(body, ask, err) < 0 || outputs_parse(body, ask, err) < 0)
		return -1;
	if (input && bytes_parse(input, "'stdin'", &ask->input, &ask->input_n, err) < 0)
		return -1;
	ask->secrets = json_incref(json_object_get(body, "secrets"));
	ask->network = json_incref(json_object_get(body, "network"));
	ask->volumes = json_incref(json_object_get(body, "volumes"));
	ask->has_input = ask->input_n > 0;
	const char *user = json_string_value(json_object_get(ask->spec, "user"));
	ask->user = user ? user : "";
	return 0;
}

int runask_parse(json_t *body, struct run_ask *ret, struct brig_err *err)
{
	struct run_ask ask = { .user = "" };
	ask.spec = json_object();
	if (all_parse(body, &ask, err) < 0) {
		runask_done(&ask);
		return -1;
	}
	*ret = ask;
	return 0;
}
