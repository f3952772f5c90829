// `npm run simulate -- --schedules N --seed S`: see test/simulation. The set-up has built it.
await import('../dist/test/simulation/main.js')
