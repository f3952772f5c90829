// `npm run coherence -- --rounds N --seed S`: see test/coherence. The set-up has built it.
await import('../dist/test/coherence/main.js')
