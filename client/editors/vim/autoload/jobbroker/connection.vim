vim9script
# One connection to the broker, kept up. What is asked while it is down is sent when it is up again.

const FIRST_PAUSE = 250 # ms between attempts; they double
const LONGEST_PAUSE = 30000
const SHUTTING_DOWN = -31007
export const LOST = {message: 'the broker went away', lost: true}

var OnUp: func()
var OnNote: func(string, dict<any>)
var OnDown: func()

var channel: channel
var finding: job # jobctl, which knows where the socket is
var path = ''
var ready = false # the broker has answered
var opening = false
var leaving = false # it answers nothing any more
var told = false # it said goodbye: somebody wanted it gone, so only look whether it is back
var pause = FIRST_PAUSE
var timer = 0
var queue: list<dict<any>> = []
var pending: dict<func(dict<any>, dict<any>)> = {}

export def Setup(Up: func(), Note: func(string, dict<any>), Down: func())
  OnUp = Up
  OnNote = Note
  OnDown = Down
enddef

export def IsUp(): bool
  return ready
enddef

def Jobctl(): list<string>
  return get(g:, 'jobs_jobctl', ['jobctl'])
enddef

def Later()
  if timer != 0
    return
  endif
  timer = timer_start(pause, (_) => {
    timer = 0
    Connect()
  })
  pause = min([pause * 2, LONGEST_PAUSE])
enddef

def WentDown()
  const was_up = ready
  const unanswered = pending
  ready = false
  opening = false
  leaving = false
  pending = {}
  for Callback in values(unanswered)
    Callback(LOST, {})
  endfor
  if was_up
    OnDown()
  endif
  Later()
enddef

def Closed(closed: channel)
  if closed == channel
    WentDown()
  endif
enddef

def Told(_: channel, message: dict<any>)
  if !has_key(message, 'method')
    return
  endif
  if message.method == 'notifications/broker/shuttingDown'
    told = true
    leaving = true
  endif
  OnNote(message.method, get(message, 'params', {}))
enddef

def Send(method: string, params: dict<any>, Callback: func(dict<any>, dict<any>))
  var key = ''
  # never ch_evalexpr: it would hold up the user
  const sent = ch_sendexpr(channel, {method: method, params: params}, {callback: (_, answer) => {
    if !has_key(pending, key)
      return
    endif
    remove(pending, key)
    if has_key(answer, 'error')
      if answer.error.code == SHUTTING_DOWN
        leaving = true
        answer.error.lost = true
      endif
      Callback(answer.error, {})
    else
      Callback({}, type(answer.result) == v:t_dict ? answer.result : {})
    endif
  }})
  if type(sent) != v:t_dict || !has_key(sent, 'id')
    Callback(LOST, {})
    return
  endif
  key = string(sent.id)
  pending[key] = Callback
enddef

def Open()
  channel = ch_open('unix:' .. path, {mode: 'lsp', callback: Told, close_cb: Closed})
  if ch_status(channel) != 'open'
    opening = false
    Later()
    return
  endif
  Send('initialize', {clientInfo: {name: 'vim', version: string(v:versionlong)}}, (err, _) => {
    if !empty(err)
      ch_close(channel)
      WentDown()
      return
    endif
    ready = true
    opening = false
    told = false
    pause = FIRST_PAUSE
    OnUp()
    const waiting = queue
    queue = []
    for each in waiting
      Send(each.method, each.params, each.callback)
    endfor
  })
enddef

# Ask jobctl where the socket is, which starts a broker if there is none.
def Find()
  var lines: list<string> = []
  finding = job_start(Jobctl() + ['socket-path'], {
    in_io: 'null',
    err_io: 'null',
    out_cb: (_, line) => add(lines, line),
    close_cb: (_) => {
      if empty(lines)
        opening = false
        Later()
      else
        path = lines[0]
        Open()
      endif
    },
  })
  if job_status(finding) == 'fail'
    opening = false
    echohl ErrorMsg
    echomsg 'jobs: cannot run ' .. Jobctl()[0] .. ', set g:jobs_jobctl'
    echohl None
  endif
enddef

# Connect if need be. With `start`, somebody wants it now: a broker that was stopped is started again.
export def Connect(start = false)
  if ready || opening
    return
  endif
  if told && !start && getftype(path) != 'socket'
    Later()
    return
  endif
  opening = true
  if told && !start
    Open()
  else
    Find()
  endif
enddef

# Send a request, now or when there is a connection. Callback(error, result) once; one of them is empty.
# `patiently` does not start a broker that was stopped.
export def Request(method: string, params: dict<any>, Callback: func(dict<any>, dict<any>), patiently = false)
  if ready && !leaving
    Send(method, params, Callback)
    return
  endif
  add(queue, {method: method, params: params, callback: Callback})
  Connect(!patiently)
enddef
