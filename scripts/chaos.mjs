// `npm run chaos -- --minutes N --seed S`: see test/chaos. The set-up has built it.
await import('../dist/test/chaos/main.js')
