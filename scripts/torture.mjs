// `npm run torture -- --minutes N --seed S`: see test/torture. The set-up has built it.
await import('../dist/test/torture/main.js')
