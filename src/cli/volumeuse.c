/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server elsewhere looks the name up among the volumes of the key's tenant. The one of this machine is two
 * processes: brig-api has the names, brigd makes the sandbox and knows ids only. So this process, whose user
 * owns both, asks the one and tells the other.
 */
#include "cli/volumeuse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/apicall.h"
#include "cli/remote.h"

#define NAME_LEN_MAX 63u

bool volumeuse_named(const char *host)
{
	return !strchr(host, '/');
}

int volumeuse_check(const char *name, struct brig_err *err)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
	if (n >= 1 && n <= NAME_LEN_MAX && !name[n] && !strchr("_.-", name[0]))
		return 0;
	brig_err_set(err, BRIG_E_INVALID, 0, "'%.80s' is no name of a volume", name);
	return brig_fix(err, "a name is 1 to %u of a-z A-Z 0-9 _ . -; a folder of this machine is written with a "
			     "slash, as in ./data:/data",
			NAME_LEN_MAX);
}

json_t *volumeuse_json(const char *name, const char *guest, bool readonly, struct brig_err *err)
{
	char path[128];
	json_t *answer = NULL, *o = NULL;
	const char *id = name;
	if (volumeuse_check(name, err) < 0)
		return NULL;
	snprintf(path, sizeof(path), "/v1/volumes/%s?brief=1", name);
	if (!remote_wanted()) {
		if (api_call("GET", path, NULL, &answer, err) < 0) {
			brig_err_prefix(err, "volume '%s'", name);
			return NULL;
		}
		id = json_string_value(json_object_get(answer, "id"));
		if (json_is_true(json_object_get(answer, "snapshot")) && !readonly) {
			brig_err_set(err, BRIG_E_STATE, 0, "volume '%s' is a snapshot: nobody may write to it", name);
			brig_err_remedy(err, "attach it read-only (%s:%.100s:ro), or make a clone: brig volume clone",
					name, guest);
			json_decref(answer);
			return NULL;
		}
	}
	o = json_pack("{s:s,s:s,s:b}", "volume", id ? id : "", "guest", guest, "readonly", (int)readonly);
	json_decref(answer);
	if (!o)
		brig_err_set(err, BRIG_E_INVALID, 0, "the path inside is no UTF-8 text");
	return o;
}
