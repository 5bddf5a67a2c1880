vim9script
# What is known of the jobs: those of the broker, and which of them are ours.

import autoload './connection.vim'

export var known: dict<dict<any>> = {}
var cursor = '' # of the last news that was read
var mine: dict<func(dict<any>)> = {} # id -> what to do at its end; gone once that was done
var Changed: func()

export def Setup(OnChange: func())
  Changed = OnChange
  connection.Setup(OnUp, OnNote, OnChange)
enddef

export def IsLive(job: dict<any>): bool
  return index(['queued', 'running', 'stopped'], job.status) >= 0
enddef

# Bytes that are no text travel as an object.
export def TextOf(text: any): string
  return type(text) == v:t_string ? text : '?'
enddef

export def Filled(job: dict<any>, member: string): bool
  return has_key(job, member) && job[member] != v:null && job[member] != ''
enddef

export def Title(job: dict<any>): string
  return Filled(job, 'name') ? $'{job.name} ({job.id})' : job.id
enddef

# How it ended or stands, in words.
export def State(job: dict<any>): string
  if get(job, 'exitCode', v:null) != v:null && job.exitCode != 0
    return $'{job.status}: exit status {job.exitCode}'
  elseif Filled(job, 'signal')
    return $'{job.status}: {job.signal}'
  endif
  return job.status .. (job.status == 'failed' && Filled(job, 'error') ? $': {job.error}' : '')
enddef

def Learn(job: dict<any>)
  if has_key(known, job.id) && known[job.id].rev > job.rev
    return
  endif
  known[job.id] = job
  if has_key(mine, job.id) && !IsLive(job)
    const AtEnd = remove(mine, job.id)
    AtEnd(job)
  endif
enddef

def Forget(id: string)
  if has_key(known, id)
    remove(known, id)
  endif
enddef

# A job of this editor: AtEnd is called once, when it has ended.
export def Adopt(job: dict<any>, AtEnd: func(dict<any>))
  mine[job.id] = AtEnd
  Learn(job)
  Changed()
enddef

# Jobs of a directory, or all, newest first.
export def Sorted(cwd = ''): list<dict<any>>
  var found = values(known)
  if cwd != ''
    filter(found, (_, job) => TextOf(job.cwd) ==# cwd)
  endif
  return sort(found, (a, b) => b.number - a.number)
enddef

# The job somebody means: an id, a beginning of one or a name; without a word, the newest of this directory.
export def Find(reference: string): dict<any>
  const among = reference == '' ? Sorted(getcwd()) : Sorted()
  for job in among
    if reference == '' || get(job, 'name', '') ==# reference || stridx(job.id, reference) == 0
      return job
    endif
  endfor
  return {}
enddef

export def Statusline(): string
  if !connection.IsUp()
    return ''
  endif
  var running = 0
  var failed = 0
  for job in Sorted(getcwd())
    if IsLive(job)
      ++running
    elseif job.status != 'completed' && job.status != 'cancelled'
      ++failed
    endif
  endfor
  var parts: list<string> = []
  if running > 0
    add(parts, $'{running} run')
  endif
  if failed > 0
    add(parts, $'{failed} fail')
  endif
  return join(parts, ' ')
enddef

# What happened to ours while nobody told us.
def Settle()
  for id in keys(mine)
    connection.Request('job/get', {id: id}, (err, result) => {
      if empty(err)
        Learn(result.job)
        Changed()
      elseif !has_key(err, 'lost') && has_key(mine, id) # it was removed meanwhile
        remove(mine, id)
      endif
    }, true)
  endfor
enddef

def Subscribed(err: dict<any>, news: dict<any>)
  if !empty(err)
    return
  endif
  cursor = news.cursor
  if news.reset
    known = {}
  endif
  for id in news.removed
    Forget(id)
  endfor
  for job in news.jobs
    Learn(job)
  endfor
  connection.Request('job/list', {limit: 200}, (_, page) => {
    for job in get(page, 'jobs', [])
      Learn(job)
    endfor
    Settle()
    Changed()
  }, true)
enddef

def OnUp()
  connection.Request('events/subscribe', cursor == '' ? {} : {since: cursor}, Subscribed, true)
enddef

def OnNote(method: string, params: dict<any>)
  cursor = get(params, 'cursor', cursor)
  if method == 'notifications/job/updated'
    Learn(params.job)
  elseif method == 'notifications/job/removed'
    Forget(params.id)
  else
    return
  endif
  Changed()
enddef
