/* SPDX-License-Identifier: Apache-2.0 */
#include "filter_samples.h"

uint64_t samples_random(struct samples *s)
{
	/* splitmix64 (Steele, Lea and Flood 2014) */
	uint64_t z = (s->seed += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t near_value(struct samples *s, const struct profile_cond *c)
{
	uint32_t v = c->values[samples_random(s) % c->n_values];
	switch (samples_random(s) % 8) {
	case 0:
		return v + 1u;
	case 1:
		return v - 1u;
	case 2: /* bits that the condition must not see */
		return v | ((uint32_t)samples_random(s) & ~c->mask);
	case 3: /* .. and that it must */
		return v ^ (1u << samples_random(s) % 32);
	case 4:
		return v | samples_random(s) << 32;
	default:
		return v;
	}
}

void samples_args(struct samples *s, uint32_t nr, uint64_t args[6])
{
	unsigned n;
	unsigned first = profile_rules_of(s->p, nr, &n);
	for (unsigned i = 0; i < 6; i++)
		args[i] = samples_random(s) % 3 ? samples_random(s) % 4 : samples_random(s);
	if (!n)
		return;
	/* Aim at one rule, so that conditions that must hold together are met together. */
	const struct profile_rule *r = &s->p->rules[first + samples_random(s) % n];
	for (unsigned i = 0; i < r->n_conds; i++)
		args[r->conds[i].arg] = near_value(s, &r->conds[i]);
}
