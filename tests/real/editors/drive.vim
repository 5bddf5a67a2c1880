vim9script
# Drives the plugin in Vim as a user would. The test beside it stops and starts the broker at the marks.

import autoload 'jobbroker/jobs.vim'
import autoload 'jobbroker/connection.vim'

var notices: list<string> = []
g:jobs_jobctl = [$JOBCTL]
g:JobsNotify = (text, _) => add(notices, text)

def Mark(name: string, lines: list<string> = [])
  writefile(lines, $'{$MARKS}/{name}.part')
  rename($'{$MARKS}/{name}.part', $'{$MARKS}/{name}')
enddef

def Eventually(what: string, Condition: func(): bool)
  const began = reltime()
  while !Condition()
    if reltimefloat(reltime(began)) > 20
      throw $'never happened: {what}; notices: {notices}'
    endif
    sleep 10m
  endwhile
enddef

def Check(truth: bool, what: string)
  if !truth
    throw what
  endif
enddef

def Noticed(pattern: string): number
  return len(copy(notices)->filter((_, text) => text =~ pattern))
enddef

def Newest(status: string): bool
  const job = jobs.Find('')
  return !empty(job) && job.status == status
enddef

def Text(buffer = bufnr()): string
  return getbufline(buffer, 1, '$')->join("\n")
enddef

def Drive()
  # started from the prompt; the list is live; one notice at the end
  feedkeys(":Job\<CR>echo tschüß; exit 3\<CR>", 'tx')
  Eventually('its end', () => Newest('failed'))
  Eventually('a notice', () => Noticed('^job echo.* failed: exit status 3') == 1)
  Check(g:JobsStatusline() == '1 fail', g:JobsStatusline())
  Jobs
  const list = bufnr()
  Check(Text() =~ 'echo.*failed: exit status 3', Text())
  JobOutput echo
  Eventually('its output', () => Text() =~ 'tschüß')
  bwipeout

  # the build command, and its errors in quickfix
  set makeprg=echo\ 'prog.c:7:3:\ error:\ no\ such\ thing';false
  JobMake
  Eventually('errors', () => Noticed('1 in quickfix') == 1)
  const item = getqflist()->filter((_, each) => each.valid)[0]
  Check(item.lnum == 7 && item.col == 3 && item.text =~ 'no such thing', string(item))
  Check(fnamemodify(bufname(item.bufnr), ':p') == getcwd() .. '/prog.c', bufname(item.bufnr))

  # rerun
  const before = jobs.Find('').id
  execute 'JobRerun' before
  Eventually('another run', () => Newest('failed') && jobs.Find('').id != before)

  # cancel
  Job sleep 300
  Eventually('a running job', () => Newest('running'))
  Check(g:JobsStatusline() =~ '^1 run', g:JobsStatusline())
  Check(Text(list) =~ 'sleep.*running', Text(list))
  JobCancel
  Eventually('cancelled', () => Newest('cancelled'))

  # followed, while it runs, and across another broker
  execute "Job trap '' HUP; echo one; while [ ! -e $MARKS/end ]; do sleep 0.05; done; echo two"
  Eventually('a running job', () => Newest('running'))
  const long = jobs.Find('').id
  JobOutput
  Eventually('one', () => Text() == "one\n")
  Mark('ready')
  Eventually('the loss', () => !connection.IsUp())
  Check(g:JobsStatusline() == '', g:JobsStatusline())
  Mark('down')
  Eventually('the return', () => connection.IsUp() && has_key(jobs.known, long))
  Check(Noticed($'({long})') == 0, string(notices))
  Mark('end')
  Eventually('two', () => Text() == "one\ntwo\n")
  Eventually('a notice of its end', () => Noticed($'{long}.* completed') == 1)

  # what others start here is seen, and not announced
  Mark('other')
  Eventually("another's job", () => Newest('completed') && jobs.Find('').name == 'other')
  Check(Noticed('other') == 0, string(notices))
enddef

try
  Drive()
  Mark('result', ['passed'])
catch
  Mark('result', [v:exception, v:throwpoint])
endtry
qall!
