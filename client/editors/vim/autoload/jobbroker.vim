vim9script
# Jobs that outlive the editor: what the commands do.

import autoload './jobbroker/connection.vim'
import autoload './jobbroker/jobs.vim'
import autoload './jobbroker/output.vim'
import autoload './jobbroker/list.vim'

jobs.Setup(() => {
  list.Render()
  redrawstatus!
})

def Say(text: string, bad = false)
  # a test, or a user with a plugin of his own for notices, takes them over
  if exists('g:JobsNotify')
    call(g:JobsNotify, [text, bad])
  elseif has('popupwin')
    popup_notification(text, {highlight: bad ? 'ErrorMsg' : 'MoreMsg', time: 8000})
  else
    echomsg text
  endif
enddef

def Complain(err: dict<any>)
  Say('jobs: ' .. err.message, true)
enddef

def Request(method: string, params: dict<any>, Callback: func(dict<any>))
  connection.Request(method, params, (err, result) => {
    if empty(err)
      Callback(result)
    else
      Complain(err)
    endif
  })
enddef

def Duration(ms: any): string
  if type(ms) != v:t_number
    return ''
  endif
  const seconds = ms / 1000
  return seconds < 60 ? $' after {seconds}s' : $' after {seconds / 60}m{seconds % 60}s'
enddef

# Put a job's errors into the quickfix list, read with `efm`; Callback(how many).
def ToQuickfix(job: dict<any>, efm: string, Callback: func(number))
  output.Lines(job.id, (lines) => {
    # names of files are relative to where it ran
    const entered = [$"jobs: Entering directory '{jobs.TextOf(job.cwd)}'"] + lines
    setqflist([], ' ', {title: 'job ' .. jobs.Title(job), lines: entered, efm: "%Djobs: Entering directory '%f'," .. efm})
    Callback(getqflist()->filter((_, item) => item.valid)->len())
  })
enddef

def Ended(job: dict<any>, efm: string)
  const Announce = (more: string) => {
    if get(g:, 'jobs_notify', true)
      const text = $'job {jobs.Title(job)} {jobs.State(job)}{Duration(job.durationMs)}{more}'
      Say(text, job.status != 'completed')
    endif
  }
  if efm == ''
    Announce('')
  else
    ToQuickfix(job, efm, (count) => Announce(count > 0 ? $', {count} in quickfix' : ''))
  endif
enddef

def Begin(params: dict<any>, efm = '')
  Request('job/start', params, (result) => {
    jobs.Adopt(result.job, (job) => Ended(job, efm))
  })
enddef

# Start argv as a job; with `efm`, its errors go into the quickfix list at its end.
export def Start(argv: list<string>, name = '', efm = '')
  var params: dict<any> = {argv: argv, cwd: getcwd(), env: environ(), merged: true}
  if name != ''
    params.name = name
  endif
  Begin(params, efm)
enddef

def InShell(text: string): list<string>
  return split(&shell) + split(&shellcmdflag) + [text]
enddef

def NameOf(text: string): string
  return matchstr(text, '\S\+')->fnamemodify(':t')->strcharpart(0, 200)
enddef

# Start a shell command; without one, ask for it.
export def Run(given: string)
  const text = given == '' ? input('Job: ', '', 'shellcmd') : given
  if text != ''
    Start(InShell(text), NameOf(text))
  endif
enddef

# What :make would run, as a job.
export def Make(arguments: string)
  const makeprg = expandcmd(&l:makeprg == '' ? &makeprg : &l:makeprg)
  var text = substitute(makeprg, '\$\*', escape(arguments, '\&~'), 'g')
  if text ==# makeprg && arguments != ''
    text ..= ' ' .. arguments
  endif
  Start(InShell(text), NameOf(text), &l:errorformat == '' ? &errorformat : &l:errorformat)
enddef

def With(reference: string, Action: func(dict<any>))
  const job = jobs.Find(reference)
  if !empty(job)
    Action(job)
  elseif reference == ''
    Complain({message: 'no job of this directory'})
  else # older than those in the list, or we are not connected yet
    Request('job/get', {id: reference}, (result) => Action(result.job))
  endif
enddef

export def Output(reference = '')
  With(reference, output.Open)
enddef

export def Cancel(reference = '')
  With(reference, (job) => {
    Request('job/cancel', {id: job.id}, (result) => {
      if !result.changed
        Say($'job {jobs.Title(job)} had ended already')
      endif
    })
  })
enddef

# The same command in the same place, with the same environment and limits.
export def Rerun(reference = '')
  With(reference, (listed) => {
    Request('job/get', {id: listed.id, env: true}, (result) => {
      const job = result.job
      const members = ['name', 'labels', 'cwd', 'env', 'merged', 'timeoutMs', 'idleTimeoutMs', 'graceMs']
        + {command: ['argv'], agent: ['agent', 'prompt'], turn: ['method', 'params']}[job.kind]
      var params: dict<any> = {}
      for member in members
        if get(job, member, v:null) != v:null
          params[member] = job[member]
        endif
      endfor
      Begin(params)
    })
  })
enddef

export def Errors(reference = '')
  With(reference, (job) => {
    ToQuickfix(job, &errorformat, (count) => {
      if count > 0
        botright copen
        cfirst
      else
        Say($'job {jobs.Title(job)}: no errors found in its output')
      endif
    })
  })
enddef

export def List(everywhere = false)
  connection.Connect(true)
  list.Open(everywhere)
enddef

export def Statusline(): string
  return jobs.Statusline()
enddef

export def Complete(..._): string
  var words: dict<bool> = {}
  for job in jobs.Sorted()
    words[job.id] = true
    if jobs.Filled(job, 'name')
      words[job.name] = true
    endif
  endfor
  return join(keys(words), "\n")
enddef
