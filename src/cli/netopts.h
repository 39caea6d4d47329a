/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netopts.h: the flags of a sandbox's network (run, create, net) and the object that is made of them
 * (client_proto.h). What a destination is, the server decides; here it is only passed on.
 */
#ifndef BRIG_CLI_NETOPTS_H
#define BRIG_CLI_NETOPTS_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/cli.h"

struct net_opts {
	const char *mode;
	struct strlist allow, deny, grant, budget, limit, networks, aliases;
};

/* By hand: the formatter takes every other row of such a table for something else. */
/* clang-format off */
#define NET_RULE_ROWS(type, member)                                                               \
	{ .name = "net",                                                                          \
	  .kind = FLAG_STR,                                                                       \
	  .at = offsetof(type, member.mode),                                                      \
	  .arg = "MODE",                                                                          \
	  .choices = "none deny public",                                                          \
	  .help = "what it may reach: nothing, only what --allow names, or everything public; "   \
		  "default: none, and deny with --allow" },                                       \
	{ .name = "network",                                                                      \
	  .kind = FLAG_LIST,                                                                      \
	  .at = offsetof(type, member.networks),                                                  \
	  .arg = "NAME",                                                                          \
	  .help = "let it and others of this private network reach each other by name; see brig " \
		  "network" },                                                                    \
	{ .name = "alias",                                                                        \
	  .kind = FLAG_LIST,                                                                      \
	  .at = offsetof(type, member.aliases),                                                   \
	  .arg = "NAME",                                                                          \
	  .help = "another name of it in the networks of --network" },                            \
	{ .name = "allow",                                                                        \
	  .kind = FLAG_LIST,                                                                      \
	  .at = offsetof(type, member.allow),                                                     \
	  .arg = "DEST",                                                                          \
	  .help = "let it reach DEST: HOST, *.HOST, ADDRESS or PREFIX, each with :PORT or "       \
		  ":FROM-TO if only that is meant" },                                             \
	{ .name = "deny",                                                                         \
	  .kind = FLAG_LIST,                                                                      \
	  .at = offsetof(type, member.deny),                                                      \
	  .arg = "DEST",                                                                          \
	  .help = "never let it reach DEST, whatever else allows it" },                           \
	{ .name = "grant",                                                                        \
	  .kind = FLAG_LIST,                                                                      \
	  .at = offsetof(type, member.grant),                                                     \
	  .arg = "DEST",                                                                          \
	  .help = "take DEST out of what is protected (private networks, this host); it must be " \
		  "allowed besides" }
#define NET_ROWS(type, member)                                                                    \
	NET_RULE_ROWS(type, member),                                                              \
	{ .name = "net-limit",                                                                    \
	  .kind = FLAG_LIST,                                                                      \
	  .at = offsetof(type, member.limit),                                                     \
	  .arg = "WHAT=N",                                                                        \
	  .help = "at most N of rate_out, rate_in (bytes a second, with K, M, G), connections "   \
		  "(at a time) or connects (a second)" },                                         \
	{ .name = "net-budget",                                                                   \
	  .kind = FLAG_LIST,                                                                      \
	  .at = offsetof(type, member.budget),                                                    \
	  .arg = "WHAT=N",                                                                        \
	  .help = "end it when it has used up N of bytes_out, bytes_in (with K, M, G), requests " \
		  "or names; WHAT@dest=N for each destination" }
/* clang-format on */

/* *ret: a new reference, or NULL if nothing was asked for. -1 with err: a mistake in the command line. */
int net_opts_json(const struct net_opts *o, json_t **ret, struct brig_err *err);
/* Whether the server of this machine has the networks that such an object names; one elsewhere says so itself. */
int net_opts_known(const json_t *network, struct brig_err *err);
/* Whether such an object asks for a link. */
bool net_opts_link(const json_t *network);

#endif
