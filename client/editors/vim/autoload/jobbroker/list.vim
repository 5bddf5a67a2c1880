vim9script
# The list of jobs, in a buffer that changes as they do.

import autoload './jobs.vim'
import autoload '../jobbroker.vim' as api

const HELP = '<CR> output  c cancel  r rerun  e errors  a all/here  q close'

var buffer = -1
var shown: list<dict<any>> = []
var cwd = '' # the directory it is restricted to

def LineOf(job: dict<any>): string
  const argv = type(get(job, 'argv', v:null)) == v:t_list ? job.argv : [get(job, 'prompt', get(job, 'method', ''))]
  const command = mapnew(argv, (_, word) => jobs.TextOf(word))->join(' ')
  const name = jobs.Filled(job, 'name') ? job.name : '-'
  return printf('%-6s  %-12.12S  %-24.24S  %s', job.id, name, jobs.State(job), command)->substitute('[[:cntrl:]]', ' ', 'g')
enddef

export def Render()
  if buffer == -1 || !bufloaded(buffer)
    return
  endif
  shown = jobs.Sorted(cwd)
  const lines = [$'Jobs {cwd == "" ? "everywhere" : "of " .. cwd}   {HELP}'] + mapnew(shown, (_, job) => LineOf(job))
  setbufvar(buffer, '&modifiable', true)
  setbufline(buffer, 1, lines)
  silent deletebufline(buffer, len(lines) + 1, '$')
  setbufvar(buffer, '&modifiable', false)
enddef

def Here(Action: func(string))
  const at = line('.') - 2
  if at >= 0 && at < len(shown)
    Action(shown[at].id)
  endif
enddef

def Toggle()
  cwd = cwd == '' ? getcwd() : ''
  Render()
enddef

export def Open(everywhere: bool)
  cwd = everywhere ? '' : getcwd()
  if buffer != -1 && bufloaded(buffer)
    execute 'botright sbuffer' buffer
    Render()
    return
  endif
  botright new jobs://
  setlocal buftype=nofile bufhidden=wipe noswapfile nowrap cursorline nomodifiable filetype=joblist
  buffer = bufnr()
  nnoremap <buffer> <nowait> <CR> <ScriptCmd>Here(api.Output)<CR>
  nnoremap <buffer> <nowait> c <ScriptCmd>Here(api.Cancel)<CR>
  nnoremap <buffer> <nowait> r <ScriptCmd>Here(api.Rerun)<CR>
  nnoremap <buffer> <nowait> e <ScriptCmd>Here(api.Errors)<CR>
  nnoremap <buffer> <nowait> a <ScriptCmd>Toggle()<CR>
  nnoremap <buffer> <nowait> q <Cmd>close<CR>
  Render()
enddef
