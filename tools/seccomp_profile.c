/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * One pass over the text with a small cursor: the words of a line become a rule, checked as it is
 * read, so that a message can name the line. A rule that cannot have an effect is an error, not a
 * curiosity: in a security policy it is usually a misunderstanding.
 *
 * Runs at build time on our own files; it is written, and fuzzed, as if they were hostile.
 */
#include "seccomp_profile.h"

#include <ctype.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"

#define WORD_MAX 64

struct cursor {
	const char *file;
	const char *at, *end;
	unsigned line;
	struct brig_err *err;
};

#define fail_at(c, ...) fail_line((c), (c)->line, __VA_ARGS__)

static int fail_line(const struct cursor *c, unsigned line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int fail_line(const struct cursor *c, unsigned line, const char *fmt, ...)
{
	char text[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return brig_fail(c->err, BRIG_E_INVALID, 0, "%s:%u: %s", c->file, line, text);
}

/* ---- words ---- */

static bool more(const struct cursor *c)
{
	return c->at < c->end;
}

static void skip_blanks(struct cursor *c)
{
	while (more(c) && (*c->at == ' ' || *c->at == '\t' || *c->at == '\r'))
		c->at++;
}

/* Blanks and line ends: where more must follow. */
static void skip_space(struct cursor *c)
{
	for (skip_blanks(c); more(c) && *c->at == '\n'; skip_blanks(c)) {
		c->at++;
		c->line++;
	}
}

static bool take(struct cursor *c, const char *what)
{
	size_t n = strlen(what);
	if ((size_t)(c->end - c->at) < n || memcmp(c->at, what, n) != 0)
		return false;
	c->at += n;
	return true;
}

static bool is_word(char ch)
{
	return isalnum((unsigned char)ch) || ch == '_' || ch == '-';
}

/* The word at the cursor, without taking it; "" = none. */
static int peek_word(struct cursor *c, char word[WORD_MAX], size_t *ret_len)
{
	size_t n = 0;
	skip_blanks(c);
	while (c->at + n < c->end && is_word(c->at[n]))
		n++;
	if (n >= WORD_MAX)
		return fail_at(c, "a word of %zu characters", n);
	memcpy(word, c->at, n);
	word[n] = '\0';
	*ret_len = n;
	return 0;
}

static int take_word(struct cursor *c, char word[WORD_MAX], const char *what)
{
	size_t n;
	if (peek_word(c, word, &n) < 0)
		return -1;
	if (n == 0)
		return fail_at(c, "%s expected", what);
	c->at += n;
	return 0;
}

/* ---- values ---- */

static int parse_number(const char *word, uint32_t *ret)
{
	char *end;
	if (!isdigit((unsigned char)word[0]))
		return -EINVAL;
	errno = 0;
	unsigned long long v = strtoull(word, &end, 0);
	if (errno || *end || v > UINT32_MAX)
		return -ERANGE;
	*ret = (uint32_t)v;
	return 0;
}

/* One value: names and numbers joined by '|'; the line may end behind the bar. */
static int take_value(struct cursor *c, uint32_t *ret)
{
	char word[WORD_MAX];
	uint32_t all = 0, v;
	do {
		skip_space(c);
		if (take_word(c, word, "a value") < 0)
			return -1;
		int r = parse_number(word, &v);
		if (r == -ERANGE)
			return fail_at(c, "'%s' is no number of 32 bits", word);
		if (r < 0 && seccomp_constant(word, &v) < 0)
			return fail_at(c, "unknown constant '%s'", word);
		all |= v;
		skip_blanks(c);
	} while (take(c, "|"));
	*ret = all;
	return 0;
}

/* Keeps the values sorted; the second of two alike is refused. */
static int add_value(struct cursor *c, struct profile_cond *cond, uint32_t v)
{
	unsigned i = cond->n_values;
	if (v & ~cond->mask)
		return fail_at(c, "0x%x has bits outside the mask 0x%x: it never matches", v,
			       cond->mask);
	if (i == PROFILE_VALUES_MAX)
		return fail_at(c, "more than %d values", PROFILE_VALUES_MAX);
	for (; i > 0 && cond->values[i - 1] >= v; i--) {
		if (cond->values[i - 1] == v)
			return fail_at(c, "0x%x is listed twice", v);
		cond->values[i] = cond->values[i - 1];
	}
	cond->values[i] = v;
	cond->n_values++;
	return 0;
}

static int take_set(struct cursor *c, struct profile_cond *cond)
{
	uint32_t v;
	skip_blanks(c);
	if (!take(c, "{"))
		return fail_at(c, "'{' expected");
	do {
		skip_space(c);
		if (take_value(c, &v) < 0 || add_value(c, cond, v) < 0)
			return -1;
		skip_space(c);
	} while (take(c, ","));
	return take(c, "}") ? 0 : fail_at(c, "',' or '}' expected");
}

static int take_cond(struct cursor *c, struct profile_cond *cond)
{
	char word[WORD_MAX];
	size_t n;
	uint32_t v;
	if (take_word(c, word, "a condition") < 0)
		return -1;
	if (strncmp(word, "arg", 3) != 0 || word[3] < '0' || word[3] > '5' || word[4])
		return fail_at(c, "'%s' is neither an action nor arg0 to arg5", word);
	*cond = (struct profile_cond){ .arg = (unsigned)(word[3] - '0'), .mask = UINT32_MAX };
	if (peek_word(c, word, &n) < 0)
		return -1;
	if (strcmp(word, "masked") == 0) {
		c->at += n;
		skip_blanks(c);
		bool complement = take(c, "~");
		if (take_value(c, &cond->mask) < 0)
			return -1;
		if (complement)
			cond->mask = ~cond->mask;
		if (cond->mask == 0)
			return fail_at(c, "a mask of 0 leaves nothing to compare");
	}
	skip_blanks(c);
	bool equal = take(c, "==");
	if (equal || take(c, "!=")) {
		cond->negated = !equal;
		return take_value(c, &v) < 0 ? -1 : add_value(c, cond, v);
	}
	if (take_word(c, word, "'==', '!=', 'in' or 'not-in'") < 0)
		return -1;
	cond->negated = strcmp(word, "not-in") == 0;
	if (!cond->negated && strcmp(word, "in") != 0)
		return fail_at(c, "'==', '!=', 'in' or 'not-in' expected, not '%s'", word);
	return take_set(c, cond);
}

/* ---- lines ---- */

/* An action, if one stands here. */
static int take_action(struct cursor *c, uint32_t *ret, bool *ret_there)
{
	char word[WORD_MAX];
	size_t n;
	uint32_t v;
	*ret_there = false;
	if (peek_word(c, word, &n) < 0)
		return -1;
	bool is_errno = strcmp(word, "errno") == 0;
	if (strcmp(word, "allow") == 0)
		*ret = SECCOMP_RET_ALLOW;
	else if (strcmp(word, "kill") == 0)
		*ret = SECCOMP_RET_KILL_PROCESS;
	else if (!is_errno)
		return 0;
	*ret_there = true;
	c->at += n;
	if (!is_errno)
		return 0;
	if (take_word(c, word, "the name of an error") < 0)
		return -1;
	if (parse_number(word, &v) < 0 && seccomp_errno_number(word, &v) < 0)
		return fail_at(c, "unknown error '%s'", word);
	/* MAX_ERRNO: the kernel cuts off what is beyond. */
	if (v > 4095)
		return fail_at(c, "error %u is above 4095", v);
	*ret = SECCOMP_RET_ERRNO | v;
	return 0;
}

/* " # reason" and the end of the line. */
static int take_reason(struct cursor *c)
{
	skip_blanks(c);
	if (!more(c) || *c->at == '\n')
		return fail_at(c, "no reason given: a rule ends with ' # why'");
	if (!take(c, "#"))
		return fail_at(c, "'#' and a reason expected, not '%c'",
			       isprint((unsigned char)*c->at) ? *c->at : '?');
	skip_blanks(c);
	if (!more(c) || *c->at == '\n')
		return fail_at(c, "the reason is empty");
	while (more(c) && *c->at != '\n') {
		if (*c->at == '\0')
			return fail_at(c, "a NUL character");
		c->at++;
	}
	return 0;
}

struct directives {
	bool have_default, have_unknown;
};

/* "default" and "unknown"; no system call has such a name. */
static int take_directive(struct cursor *c, const char *word, struct profile *p,
			  struct directives *d)
{
	bool is_default = strcmp(word, "default") == 0;
	bool *have = is_default ? &d->have_default : &d->have_unknown;
	bool there;
	if (*have)
		return fail_at(c, "'%s' is given twice", word);
	if (p->n_rules)
		return fail_at(c, "'%s' stands before all rules", word);
	*have = true;
	if (take_action(c, is_default ? &p->default_ret : &p->unknown_ret, &there) < 0)
		return -1;
	return there ? 0 : fail_at(c, "an action (allow, errno NAME, kill) expected");
}

/* The rule may follow the last one: of the same call, or of one that was not seen yet. */
static int check_order(const struct cursor *c, const struct profile *p, uint32_t nr,
		       const char *name)
{
	if (!p->n_rules)
		return 0;
	const struct profile_rule *last = &p->rules[p->n_rules - 1];
	if (last->nr == nr)
		return last->n_conds ? 0
				     : fail_at(c, "never reached: line %u decides every '%s'",
					       last->line, name);
	for (unsigned i = 0; i < p->n_rules; i++)
		if (p->rules[i].nr == nr)
			return fail_at(c, "the rules of '%s' stand together: see line %u", name,
				       p->rules[i].line);
	return 0;
}

static int take_rule(struct cursor *c, const char *name, bool optional, struct profile *p)
{
	struct profile_cond conds[PROFILE_CONDS_MAX];
	struct profile_rule rule = { .line = c->line, .ret = SECCOMP_RET_ALLOW };
	bool there;
	bool exists = seccomp_syscall_number(p->arch, name, &rule.nr) == 0;
	if (!exists && !optional)
		return fail_at(c, "%s has no system call '%s' (write ?%s to leave it out there)",
			       p->arch->name, name, name);
	if (exists && check_order(c, p, rule.nr, name) < 0)
		return -1;
	if (take_action(c, &rule.ret, &there) < 0)
		return -1;
	skip_blanks(c);
	if (more(c) && *c->at != '#' && *c->at != '\n') {
		do {
			if (rule.n_conds == PROFILE_CONDS_MAX)
				return fail_at(c, "more than %d conditions", PROFILE_CONDS_MAX);
			skip_space(c);
			if (take_cond(c, &conds[rule.n_conds]) < 0)
				return -1;
			rule.n_conds++;
			skip_blanks(c);
		} while (take(c, ","));
	}
	if (!exists)
		return 0;
	if (p->n_rules == PROFILE_RULES_MAX)
		return fail_at(c, "more than %d rules", PROFILE_RULES_MAX);
	if (rule.n_conds) {
		rule.conds = malloc(rule.n_conds * sizeof(conds[0]));
		if (!rule.conds)
			return fail_at(c, "out of memory");
		memcpy(rule.conds, conds, rule.n_conds * sizeof(conds[0]));
	}
	p->rules[p->n_rules++] = rule;
	return 0;
}

static int take_line(struct cursor *c, struct profile *p, struct directives *d)
{
	char word[WORD_MAX];
	skip_blanks(c);
	if (!more(c) || *c->at == '\n')
		return 0;
	if (*c->at == '#') {
		while (more(c) && *c->at != '\n')
			c->at++;
		return 0;
	}
	bool optional = take(c, "?");
	if (take_word(c, word, "the name of a system call") < 0)
		return -1;
	int r;
	if (!optional && (strcmp(word, "default") == 0 || strcmp(word, "unknown") == 0))
		r = take_directive(c, word, p, d);
	else if (!d->have_default)
		r = fail_at(c, "'default' stands before all rules");
	else
		r = take_rule(c, word, optional, p);
	return r < 0 ? -1 : take_reason(c);
}

static int by_number(const void *a, const void *b)
{
	const struct profile_rule *x = a, *y = b;
	if (x->nr != y->nr)
		return x->nr < y->nr ? -1 : 1;
	/* A set may span lines, two rules never share one. */
	return x->line < y->line ? -1 : x->line > y->line;
}

/* The last rule of each call must change something. */
static int check_effect(const struct cursor *c, const struct profile *p)
{
	for (unsigned i = 0; i < p->n_rules; i++) {
		bool last = i + 1 == p->n_rules || p->rules[i + 1].nr != p->rules[i].nr;
		if (last && p->rules[i].ret == p->default_ret)
			return fail_line(c, p->rules[i].line, "no effect: this is the default");
	}
	return 0;
}

int profile_parse(const char *name, const char *text, size_t len, const struct seccomp_arch *arch,
		  struct profile *ret, struct brig_err *err)
{
	struct cursor c = { .file = name, .at = text, .end = text + len, .line = 1, .err = err };
	struct directives d = { false, false };
	struct profile p = { .arch = arch };
	*ret = p;
	p.rules = calloc(PROFILE_RULES_MAX, sizeof(p.rules[0]));
	if (!p.rules)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "%s: rules", name);
	for (;;) {
		if (take_line(&c, &p, &d) < 0)
			goto fail;
		if (!more(&c))
			break;
		/* take_line leaves the cursor on the line end. */
		c.at++;
		c.line++;
	}
	if (!d.have_default) {
		fail_at(&c, "no 'default' line");
		goto fail;
	}
	if (!d.have_unknown)
		p.unknown_ret = p.default_ret;
	qsort(p.rules, p.n_rules, sizeof(p.rules[0]), by_number);
	if (check_effect(&c, &p) < 0)
		goto fail;
	*ret = p;
	return 0;
fail:
	profile_done(&p);
	return -1;
}

void profile_done(struct profile *p)
{
	for (unsigned i = 0; i < p->n_rules; i++)
		free(p->rules[i].conds);
	free(p->rules);
	*p = (struct profile){ .arch = p->arch };
}

/* ---- meaning ---- */

bool profile_cond_holds(const struct profile_cond *c, const uint64_t args[6])
{
	uint32_t v = (uint32_t)args[c->arg] & c->mask;
	for (unsigned i = 0; i < c->n_values; i++)
		if (c->values[i] == v)
			return !c->negated;
	return c->negated;
}

unsigned profile_rules_of(const struct profile *p, uint32_t nr, unsigned *ret_n)
{
	unsigned lo = 0, hi = p->n_rules;
	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		if (p->rules[mid].nr < nr)
			lo = mid + 1;
		else
			hi = mid;
	}
	unsigned end = lo;
	while (end < p->n_rules && p->rules[end].nr == nr)
		end++;
	*ret_n = end - lo;
	return lo;
}

const struct profile_rule *profile_match(const struct profile *p, uint32_t nr,
					 const uint64_t args[6])
{
	unsigned n;
	unsigned first = profile_rules_of(p, nr, &n);
	for (unsigned i = first; i < first + n; i++) {
		const struct profile_rule *r = &p->rules[i];
		unsigned held = 0;
		while (held < r->n_conds && profile_cond_holds(&r->conds[held], args))
			held++;
		if (held == r->n_conds)
			return r;
	}
	return NULL;
}

uint32_t profile_decide(const struct profile *p, uint32_t audit_arch, uint32_t nr,
			const uint64_t args[6])
{
	if (audit_arch != p->arch->audit)
		return SECCOMP_RET_KILL_PROCESS;
	/* A tracer that cancels a call sets its number to -1, which is no call of x32. */
	if (p->arch->foreign && nr >= p->arch->foreign && nr != UINT32_MAX)
		return SECCOMP_RET_KILL_PROCESS;
	if (nr > SYSCALL_LAST)
		return p->unknown_ret;
	const struct profile_rule *r = profile_match(p, nr, args);
	return r ? r->ret : p->default_ret;
}

unsigned profile_allowed(const struct profile *p)
{
	unsigned count = 0;
	for (unsigned i = 0, n; i < p->n_rules; i += n) {
		bool allowed = false;
		profile_rules_of(p, p->rules[i].nr, &n);
		for (unsigned j = i; j < i + n; j++)
			allowed |= p->rules[j].ret == SECCOMP_RET_ALLOW;
		count += allowed;
	}
	return count;
}
