// Files that tsc does not carry into dist/: Lua scripts and protobuf contracts.
import { cpSync, existsSync } from 'node:fs'

cpSync('src/meta/scripts', 'dist/src/meta/scripts', { recursive: true })
if (existsSync('src/cluster/scripts')) cpSync('src/cluster/scripts', 'dist/src/cluster/scripts', { recursive: true })
cpSync('proto', 'dist/proto', { recursive: true })
