#!/usr/bin/env node
/** What /sbin/mount.ringfs runs: mount(8) calls it for `mount -t ringfs` and for lines of /etc/fstab. */
import { runMountHelper } from '../cli/mount-helper.js'
import { readEnvironment } from './environment.js'

const surroundings = { environment: readEnvironment(), stdout: process.stdout, stderr: process.stderr }
process.exit(await runMountHelper(surroundings, process.argv.slice(2)))
