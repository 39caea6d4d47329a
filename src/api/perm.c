/* SPDX-License-Identifier: Apache-2.0 */
/* perm.c: tables of permissions and roles; pure functions. */
#include "api/perm.h"

#include <stdio.h>
#include <string.h>

static const char *const names[PERM__N] = {
	[PERM_UNDECLARED] = "undeclared",
	[PERM_OPEN] = "none",
	[PERM_ANY] = "any",
#define X(name, text) [PERM_##name] = text,
	PERMISSIONS(X)
#undef X
		[PERM_OPERATOR] = "operator",
};

#define READ                                                                                     \
	(PERM_BIT(PERM_BOX_READ) | PERM_BIT(PERM_SNAPSHOT_READ) | PERM_BIT(PERM_TEMPLATE_READ) | \
	 PERM_BIT(PERM_VOLUME_READ) |                                                             \
	 PERM_BIT(PERM_METRICS) | PERM_BIT(PERM_QUOTA) | PERM_BIT(PERM_SERVER))

static const struct role {
	char name[ROLE_NAME_MAX];
	perm_set perms;
} roles[] = {
	{ "admin", PERM_ALL },
	{ "developer", PERM_ALL & ~PERM_BIT(PERM_KEYS) },
	{ "read-only", READ },
	{ "run-only", PERM_BIT(PERM_RUN) },
};

const char *perm_name(enum perm p)
{
	return (unsigned)p < PERM__N ? names[p] : names[PERM_UNDECLARED];
}

enum perm perm_from_name(const char *text)
{
	for (unsigned p = PERM_RUN; p < PERM_OPERATOR; p++)
		if (strcmp(names[p], text) == 0)
			return (enum perm)p;
	return PERM_UNDECLARED;
}

perm_set role_perms(const char *role)
{
	for (unsigned i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
		if (strcmp(roles[i].name, role) == 0)
			return roles[i].perms;
	return 0;
}

const char *role_names(void)
{
	return "admin, developer, read-only, run-only";
}

void scopes_text(perm_set set, char ret[SCOPES_TEXT_MAX])
{
	size_t n = 0;
	ret[0] = '\0';
	for (unsigned p = PERM_RUN; p < PERM_OPERATOR; p++)
		if ((set & PERM_BIT(p)) && n < SCOPES_TEXT_MAX)
			n += (size_t)snprintf(ret + n, SCOPES_TEXT_MAX - n, "%s%s", n ? "," : "",
					      names[p]);
}

int scopes_parse(const char *text, perm_set *ret)
{
	perm_set set = 0;
	while (*text) {
		char one[32];
		size_t n = strcspn(text, ",");
		if (n == 0 || n >= sizeof(one))
			return -1;
		memcpy(one, text, n);
		one[n] = '\0';
		enum perm p = perm_from_name(one);
		if (p == PERM_UNDECLARED)
			return -1;
		set |= PERM_BIT(p);
		text += n + (text[n] == ',');
	}
	*ret = set;
	return 0;
}

int scopes_from_json(const json_t *list, const char *role, perm_set *ret, struct brig_err *err)
{
	*ret = 0;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *text = json_string_value(json_array_get(list, i));
		enum perm p = text ? perm_from_name(text) : PERM_UNDECLARED;
		char all[SCOPES_TEXT_MAX];
		if (p != PERM_UNDECLARED && (role_perms(role) & PERM_BIT(p))) {
			*ret |= PERM_BIT(p);
			continue;
		}
		if (p == PERM_UNDECLARED)
			brig_err_set(err, BRIG_E_INVALID, 0, "there is no scope '%.64s'",
				     text ? text : "");
		else
			brig_err_set(err, BRIG_E_INVALID, 0,
				     "scope '%s' is not within role %s: a scope narrows a role and "
				     "adds nothing",
				     text, role);
		scopes_text(role_perms(role), all);
		return brig_fix(err, "scopes of role %s are %s", role, all);
	}
	return 0;
}

json_t *scopes_json(perm_set set)
{
	json_t *list = json_array();
	for (unsigned p = PERM_RUN; p < PERM_OPERATOR; p++)
		if (set & PERM_BIT(p))
			json_array_append_new(list, json_string(names[p]));
	return list;
}

perm_set perms_of(const char *role, perm_set scopes)
{
	return scopes ? role_perms(role) & scopes : role_perms(role);
}
