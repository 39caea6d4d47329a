#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// Draws how many bicycle trips start in each hour of the day. Reads the CSV from standard input.
'use strict';

const readline = require('readline');

async function main() {
  const counts = new Array(24).fill(0);
  let column = -1;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const fields = line.split(',');
    if (column < 0) {
      column = fields.indexOf('started_at');
      if (column < 0)
        throw new Error('no column "started_at"');
      continue;
    }
    counts[Number(fields[column].slice(11, 13))]++;
  }
  const scale = 40 / Math.max(...counts);
  counts.forEach((n, hour) => {
    if (n === 0)
      return;
    const bar = '#'.repeat(Math.round(n * scale));
    console.log(`${String(hour).padStart(2, '0')}h ${String(n).padStart(4)} ${bar}`);
  });
  console.log(`${counts.reduce((a, b) => a + b)} trips`);
}

main().catch((error) => {
  console.error(`hours.js: ${error.message}`);
  process.exit(1);
});
