vim9script
# What a job wrote: read to its end, and shown in a buffer while it comes.

import autoload './connection.vim'
import autoload './jobs.vim'

const WAIT = 60000 # ms the broker holds a request while there is nothing new
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'

# What is no UTF-8 comes as base64; each byte is shown as the character of that number.
def FromBase64(data: string): string
  var bits = 0
  var count = 0
  var codes: list<number> = []
  for char in data
    const value = stridx(ALPHABET, char)
    if value < 0
      continue
    endif
    bits = and(bits * 64 + value, 0xffff)
    count += 6
    if count >= 8
      count -= 8
      add(codes, and(bits >> count, 0xff))
    endif
  endfor
  return list2str(map(codes, (_, code) => code == 0 ? 0xfffd : code))
enddef

# As a terminal without colours would show it.
def Plain(line: string): string
  return line->substitute('\e\[[0-9;:?]*[ -/]*[@-~]', '', 'g')->substitute('\e\][^\x07\e]*\x07\?', '', 'g')
    ->substitute('\r\+$', '', '')->substitute('^.*\r', '', '')
enddef

# Read from the beginning: OnPiece(text) for each, OnEnd(error) once. Wanted() false ends it. With `follow`, until the
# job ends; otherwise what there is now. A lost connection is no end: it goes on where it was.
export def Read(id: string, Wanted: func(): bool, OnPiece: func(string), OnEnd: func(dict<any>), follow = false)
  Ask(id, '0', Wanted, OnPiece, OnEnd, follow)
enddef

def Ask(id: string, cursor: string, Wanted: func(): bool, OnPiece: func(string), OnEnd: func(dict<any>), follow: bool)
  var params: dict<any> = {id: id, from: cursor}
  if follow
    params.waitMs = WAIT
  endif
  connection.Request('job/output', params, (err, piece) => {
    if !Wanted()
      return
    elseif has_key(err, 'lost')
      Ask(id, cursor, Wanted, OnPiece, OnEnd, follow)
      return
    elseif !empty(err)
      OnEnd(err)
      return
    endif
    const text = piece.encoding == 'base64' ? FromBase64(piece.data) : piece.data
    OnPiece((piece.dropped > 0 ? $"\n[{piece.dropped} bytes were not kept]\n" : '') .. text)
    if piece.eof || (!follow && piece.data == '')
      OnEnd({})
    else
      Ask(id, piece.next, Wanted, OnPiece, OnEnd, follow)
    endif
  }, true)
enddef

# All lines of a job that has ended.
export def Lines(id: string, Callback: func(list<string>))
  var pieces: list<string> = []
  Read(id, () => true, (text) => {
    add(pieces, text)
  }, (_) => {
    var lines = split(join(pieces, ''), '\n', true)
    if lines[-1] == ''
      remove(lines, -1)
    endif
    Callback(map(lines, (_, line) => Plain(line)))
  })
enddef

# Show a job's output in a window, and go on while it writes.
export def Open(job: dict<any>)
  const name = 'jobs://' .. job.id
  const there = bufnr($'^{name}$')
  if there != -1
    execute 'botright sbuffer' there
    return
  endif
  execute 'botright new' fnameescape(name)
  setlocal buftype=nofile bufhidden=wipe noswapfile nomodifiable filetype=joboutput
  const buffer = bufnr()
  var rest = ''
  Read(job.id, () => bufexists(buffer), (text) => {
    var lines = split(rest .. text, '\n', true)
    rest = lines[-1]
    const last = getbufinfo(buffer)[0].linecount
    # who is at the end stays there; who reads further up is left alone
    const at_end = win_findbuf(buffer)->filter((_, window) => line('.', window) == last)
    setbufvar(buffer, '&modifiable', true)
    setbufline(buffer, last, map(lines, (_, line) => Plain(line)))
    setbufvar(buffer, '&modifiable', false)
    for window in at_end
      win_execute(window, 'normal! G')
    endfor
  }, (err) => {
    if !empty(err)
      echomsg 'jobs: ' .. err.message
    endif
  }, true)
enddef
