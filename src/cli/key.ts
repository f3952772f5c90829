import { Command } from 'commander'
import { addKey, listKeys, newKeyFile, removeKey } from '../main/key-file.js'
import { print, type Surroundings } from './surroundings.js'

const EXAMPLES = `
The file holds a key a line, the newest first: it is offered first, all are accepted. Running processes see a changed file
within two seconds. The keys themselves are never shown, only their ids.

A new cluster:     ringfs key new /etc/ringfs.key, copied to every machine of the volume (mode 600), --key-file there
To change the key: 1. ringfs key add FILE on one machine, and the file copied to all others, in any order
                   2. ringfs key remove FILE OLD-ID, and the file copied again`

export function keyCommand(surroundings: Surroundings): Command {
  const command = new Command('key')
    .summary('make and change the cluster key')
    .description('Makes and changes the file of the cluster key.')
  const tell = (text: string): void => print(surroundings, `${text}\n`)
  command
    .command('new <file>')
    .description('makes a file with a new key; nothing is overwritten')
    .action((file: string) => tell(`key ${newKeyFile(file)} is in ${file}`))
  command
    .command('add <file>')
    .description('puts a new key before the others')
    .action((file: string) =>
      tell(`key ${addKey(file)} is in ${file}, before the others: copy the file to every machine`),
    )
  command
    .command('list <file>')
    .description('ids of the keys, newest first')
    .action((file: string) => tell(listKeys(file).join('\n')))
  command
    .command('remove <file> <id>')
    .description('takes a key away')
    .action((file: string, id: string) => {
      removeKey(file, id)
      tell(`key ${id} is gone from ${file}: copy the file to every machine`)
    })
  return command.addHelpText('after', EXAMPLES)
}
