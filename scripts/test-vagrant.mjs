// `npm run test:vagrant`: see test/vagrant. The set-up has built it.
await import('../dist/test/vagrant/main.js')
